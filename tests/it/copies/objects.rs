//! A store of objects by itself: what is put there, what comes back, and what goes wrong on the way.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use punk_eco_sched::host::objects::{Content, ObjectError, Place, Store, Written};
use punk_eco_sched::host::secret::SecretText;
use sha2::{Digest, Sha256};

use crate::support::job::{SmallDisk, names};
use crate::support::s3::{self, ACCESS_KEY, BUCKET, Network, S3, SECRET_KEY};
use crate::support::server::free_port;

const MIB: usize = 1 << 20;

fn bucket(prefix: &str, port: u16) -> Place {
    let (access_key, secret_key) = (SecretText::from(ACCESS_KEY), SecretText::from(SECRET_KEY));
    Place::read(&Written {
        url: &format!("s3://{BUCKET}/{prefix}"),
        endpoint: Some(&format!("http://127.0.0.1:{port}")),
        region: None,
        access_key: Some(&access_key),
        secret_key: Some(&secret_key),
    })
    .unwrap()
}

fn folder(path: &Path) -> Place {
    Place::read(&Written { url: &format!("file://{}", path.display()), ..Written::default() }).unwrap()
}

/// A file that no part of is like another.
fn file(folder: &Path, bytes: usize) -> (PathBuf, Content) {
    let path = folder.join(format!("file-{bytes}"));
    let mut content = Vec::with_capacity(bytes + 32);
    for number in 0_u64.. {
        if content.len() >= bytes {
            break;
        }
        content.extend_from_slice(&Sha256::digest(number.to_le_bytes()));
    }
    content.truncate(bytes);
    std::fs::write(&path, &content).unwrap();
    let sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    (path, Content { bytes: bytes as u64, sha256 })
}

fn open(path: &Path) -> File {
    File::open(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_there_whole_and_comes_back_the_same() {
    if s3::missing() {
        return;
    }
    let s3 = S3::start();
    let scratch = tempfile::tempdir().unwrap();
    let (uploads, share) = (scratch.path().join("uploads"), scratch.path().join("share"));
    std::fs::create_dir(&share).unwrap();
    for place in [bucket("a/b", s3.port), folder(&share)] {
        Store::probe(&place).await.unwrap();
        let store = Store::open(&place).await.unwrap();
        for bytes in [0, 5, 8 * MIB, 20 * MIB + 7] {
            let (path, content) = file(scratch.path(), bytes);
            let name = format!("Éco-{bytes}.sql.gz");
            assert!(!store.has(&name, &content).await.unwrap());
            store.put(&name, open(&path), &content, &uploads).await.unwrap();
            assert!(store.has(&name, &content).await.unwrap(), "{bytes}");
            let other = Content { sha256: "00".repeat(32), ..content.clone() };
            assert!(!store.has(&name, &other).await.unwrap());
            let mut back = Vec::new();
            let got = store.get(&name, |piece| back.write_all(piece)).await.unwrap();
            assert!(got == content && back == std::fs::read(&path).unwrap(), "{bytes}");
        }
        store.put_small("a.json", b"one".to_vec()).await.unwrap();
        store.put_small("a.json", b"two".to_vec()).await.unwrap();
        assert_eq!(store.read("a.json").await.unwrap().unwrap(), b"two");
        assert_eq!(store.read("b.json").await.unwrap(), None);
        let mut listed = store.list().await.unwrap();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let listed: Vec<_> = listed.iter().map(|one| (one.name.as_str(), one.bytes)).collect();
        let expected = [
            ("a.json", 3),
            ("Éco-0.sql.gz", 0),
            ("Éco-20971527.sql.gz", 20_971_527),
            ("Éco-5.sql.gz", 5),
            ("Éco-8388608.sql.gz", 8_388_608),
        ];
        assert_eq!(listed, expected);
        store.delete("a.json").await.unwrap();
        store.delete("a.json").await.unwrap();
        assert_eq!(store.list().await.unwrap().len(), 4);
    }
    assert_eq!(names(&uploads), [""; 0]);
    assert_eq!(s3.uploads(), [""; 0]);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(share.join("Éco-5.sql.gz")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

/// The upload of a file to a network that lets so much of it through.
struct CutUpload {
    store: Store,
    network: Network,
    s3: S3,
    error: ObjectError,
    path: PathBuf,
    content: Content,
    uploads: PathBuf,
    scratch: tempfile::TempDir,
}

impl CutUpload {
    async fn of(bytes: usize, passes: u64) -> Self {
        let s3 = S3::start();
        let scratch = tempfile::tempdir().unwrap();
        let uploads = scratch.path().join("uploads");
        let (path, content) = file(scratch.path(), bytes);
        let network = Network::to(s3.port, passes);
        let store = Store::open(&bucket("shop", network.port)).await.unwrap();
        let error = store.put("a.sql.gz", open(&path), &content, &uploads).await.unwrap_err();
        Self { s3, network, store, error, path, content, uploads, scratch }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cut_network_has_let_through_is_not_sent_again() {
    if s3::missing() {
        return;
    }
    let cut = CutUpload::of(60 * MIB, 36 * MIB as u64).await;
    let CutUpload { s3, network, store, error, path, content, uploads, .. } = &cut;
    assert!(network.is_cut() && !error.is_lasting(), "{error}");
    assert!(error.to_string().starts_with("s3://backups/shop/a.sql.gz can't be reached: "), "{error}");
    assert_eq!((s3.keys().len(), s3.uploads().len()), (0, 1));

    network.mend();
    let before = network.passed();
    store.put("a.sql.gz", open(path), content, uploads).await.unwrap();
    let again = network.passed() - before;
    assert!(again < 44 * MIB as u64, "{again} bytes were sent again");
    assert!(s3.object("shop/a.sql.gz").unwrap() == std::fs::read(path).unwrap());
    assert_eq!((s3.uploads(), names(uploads)), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_goes_on_with_is_ended() {
    if s3::missing() {
        return;
    }
    let cut = CutUpload::of(20 * MIB, 10 * MIB as u64).await;
    let CutUpload { s3, network, store, uploads, scratch, .. } = &cut;
    assert_eq!((s3.uploads().len(), names(uploads).len()), (1, 1));
    network.mend();
    assert_eq!(store.clear(&["a.sql.gz".into()], uploads).await.unwrap(), [""; 0]);
    let said = store.clear(&["b.sql.gz".into()], uploads).await.unwrap();
    assert_eq!(said, ["ended the upload of s3://backups/shop/a.sql.gz, which was left half-done"]);
    assert_eq!((s3.uploads(), names(uploads)), (vec![], vec![]));

    // In a folder it is a hidden file whose process is gone.
    let share = scratch.path().join("share");
    std::fs::create_dir(&share).unwrap();
    std::fs::write(share.join(".a.sql.gz.copying"), "half").unwrap();
    let store = Store::open(&folder(&share)).await.unwrap();
    assert_eq!(store.list().await.unwrap(), []);
    assert_eq!(store.clear(&[], uploads).await.unwrap().len(), 1);
    assert_eq!(names(&share), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_what_is_meant_is_not_copied() {
    if s3::missing() {
        return;
    }
    let s3 = S3::start();
    let scratch = tempfile::tempdir().unwrap();
    let (uploads, share) = (scratch.path().join("uploads"), scratch.path().join("share"));
    std::fs::create_dir(&share).unwrap();
    for place in [bucket("", s3.port), folder(&share)] {
        let store = Store::open(&place).await.unwrap();
        for bytes in [5, 20 * MIB] {
            let (path, content) = file(scratch.path(), bytes);
            let meant = Content { sha256: "00".repeat(32), ..content };
            let error = store.put("a.sql.gz", open(&path), &meant, &uploads).await.unwrap_err();
            assert!(matches!(error, ObjectError::Changed { .. }) && error.is_lasting(), "{error}");
        }
    }
    assert_eq!((s3.keys(), s3.uploads(), names(&share)), (vec![], vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_store_from_being_used_is_told_in_its_words() {
    if s3::missing() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let s3 = S3::start();
    let nobody = S3::that_knows_nobody();
    let dead = free_port();
    let elsewhere = |url: &str| {
        let key = SecretText::from(SECRET_KEY);
        let endpoint = format!("http://127.0.0.1:{}", s3.port);
        let keys = Written {
            endpoint: Some(&endpoint),
            access_key: Some(&key),
            secret_key: Some(&key),
            url,
            region: None,
        };
        Place::read(&keys).unwrap()
    };
    let unset = Place::read(&Written {
        access_key: Some(&SecretText::parse("${env:NOT_SET_ANYWHERE}").unwrap()),
        secret_key: Some(&SecretText::from(SECRET_KEY)),
        url: "s3://b",
        ..Written::default()
    });
    for (place, lasting, expected) in [
        (
            bucket("", nobody.port),
            true,
            "s3://backups: the store refuses: InvalidAccessKeyId: The AWS Access Key Id you provided does not exist in our \
             records: are the access key, the secret key and their rights correct?"
                .to_owned(),
        ),
        (
            elsewhere("s3://nowhere/x"),
            true,
            "s3://nowhere/x: there is no such bucket: make it, or correct the address".to_owned(),
        ),
        (bucket("", dead), false, "s3://backups can't be reached: Connection refused (os error 111)".to_owned()),
        (
            unset.unwrap(),
            true,
            "s3://b: ${env:NOT_SET_ANYWHERE}: the environment variable NOT_SET_ANYWHERE is not set".to_owned(),
        ),
        (
            folder(&scratch.path().join("absent")),
            true,
            format!(
                "file://{}/absent can't be opened: is it mounted?: No such file or directory (os error 2)",
                scratch.path().display()
            ),
        ),
    ] {
        let error = Store::probe(&place).await.unwrap_err();
        assert_eq!((error.to_string(), error.is_lasting()), (expected, lasting));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_share_keeps_nothing_of_what_didn_t_fit() {
    let scratch = tempfile::tempdir().unwrap();
    let share = scratch.path().join("share");
    let Some(_disk) = SmallDisk::mount(&share, "4M") else { return };
    let (path, content) = file(scratch.path(), 8 * MIB);
    let store = Store::open(&folder(&share)).await.unwrap();
    let error = store.put("a.sql.gz", open(&path), &content, scratch.path()).await.unwrap_err();
    let expected = format!(
        "file://{}/a.sql.gz: the store is full: No space left on device (os error 28)",
        share.display()
    );
    assert_eq!((error.to_string(), error.is_lasting()), (expected, false));
    assert_eq!(names(&share), [""; 0]);
}

/// Takes whatever it is sent, and gives back this.
fn forgetful(status: &'static str, kept: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut reader = BufReader::new(connection.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).unwrap_or(0) > 2 {
                let line = head.lines().last().unwrap().to_lowercase();
                length =
                    line.strip_prefix("content-length: ").map_or(length, |text| text.trim().parse().unwrap());
            }
            let _ = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink());
            let body = if head.starts_with("GET") { kept } else { "" };
            let mut answer = format!(
                "HTTP/1.1 {status}\r\netag: \"x\"\r\nlast-modified: Sun, 22 Nov 2026 23:00:00 GMT\r\n\
                 content-length: {}\r\nconnection: close\r\n\r\n",
                if head.starts_with("PUT") || head.starts_with("DELETE") { 0 } else { kept.len() }
            );
            answer.push_str(body);
            let _ = reader.get_mut().write_all(answer.as_bytes());
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_keeps_something_else_or_has_no_space_is_no_success() {
    let scratch = tempfile::tempdir().unwrap();
    let (path, content) = file(scratch.path(), 5);
    let put = async |port| {
        let store = Store::open(&bucket("", port)).await.unwrap();
        store.put("a.sql.gz", open(&path), &content, scratch.path()).await.unwrap_err()
    };
    let error = put(forgetful("200 OK", "abcde")).await;
    assert!(matches!(error, ObjectError::Differs { .. }) && !error.is_lasting(), "{error}");
    let error = put(forgetful("507 Insufficient Storage", "")).await;
    assert_eq!(
        (error.to_string().as_str(), error.is_lasting()),
        ("s3://backups/a.sql.gz: the store is full: it answers 507 Insufficient Storage", false)
    );
}
