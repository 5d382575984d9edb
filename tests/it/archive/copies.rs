//! Archives that only the holder of a key can read, and copies of them elsewhere.

use age::secrecy::ExposeSecret;
use punk_eco_sched::backup::archive;
use punk_eco_sched::backup::copies::{self, CopyTo, Destination};
use punk_eco_sched::backup::crypt::Identities;
use punk_eco_sched::backup::keys::Keys;
use punk_eco_sched::backup::manifest::State;
use punk_eco_sched::backup::publish::Directory;
use punk_eco_sched::backup::read::Progress;
use punk_eco_sched::host::files::Owner;
use punk_eco_sched::jobs::verify_backup::VerifyBackup;
use punk_eco_sched::jobs::{Backs, Job, JobError, Kept};
use punk_eco_sched::model::RunId;

use super::{archived, bench, look, make_tree, manifest, options};
use crate::support::job::{Bench, names};
use crate::support::s3::{self, Network, S3};

const MARK: &str = "a-line-that-nobody-else-may-read";

fn holds(file: &[u8], text: &str) -> bool {
    file.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_archive_is_read_by_the_holder_of_the_key_alone() {
    let key = age::x25519::Identity::generate();
    let recipient = key.to_public().to_string();
    let keys = Identities::parse(key.to_string().expose_secret()).unwrap();
    for (compression, suffix) in [("gzip", ".tar.gz.age"), ("zstd", ".tar.zst.age"), ("none", ".tar.age")] {
        let bench = bench().await;
        make_tree(&bench.path("media"));
        std::fs::write(bench.path("media/marked"), MARK.repeat(10_000)).unwrap();
        let before = look(&bench.path("media"));
        let more = format!(r#", "compression": "{compression}", "encrypt_to": ["{recipient}"]"#);
        let (file, _) = archived(&bench, &more).await;
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(name.ends_with(suffix), "{name}");
        assert_eq!(names(&bench.path("archives")).len(), 2);
        let content = std::fs::read(&file).unwrap();
        assert!(content.starts_with(b"age-encryption.org/v1"));
        assert!(!holds(&content, MARK) && !holds(&content, "ustar") && !holds(&content, "marked"));
        let manifest_then = manifest(&file);
        assert_eq!(manifest_then.encrypted_to, std::slice::from_ref(&recipient));

        let work = bench.context().work();
        let check = |keys: Option<&Identities>| archive::check(&work, &file, keys, Progress::default());
        let other = Identities::parse(age::x25519::Identity::generate().to_string().expose_secret()).unwrap();
        let none = check(None).unwrap_err().to_string();
        assert!(
            none.contains("it is encrypted, and no key was given") || none.contains("is encrypted"),
            "{none}"
        );
        let wrong = check(Some(&other)).unwrap_err().to_string();
        assert!(wrong.contains("is encrypted for other keys than the given one"), "{wrong}");
        // Whoever lacks the key says nothing of the archive.
        assert_eq!(manifest(&file).proof, manifest_then.proof);
        assert_eq!(check(Some(&keys)).unwrap().manifest.proof.state, State::Verified);

        let plan = archive::plan(&file, &bench.path("ours"), bench.clock.now()).unwrap();
        assert!(archive::restore(&work, &plan, None, Progress::default()).is_err());
        assert!(!bench.path("ours").exists());
        archive::restore(&work, &plan, Some(&keys), Progress::default()).unwrap();
        assert_eq!(look(&bench.path("ours")), before);

        // As the job does it, with the file of the key.
        let key_file = bench.path("key");
        std::fs::write(&key_file, key.to_string().expose_secret()).unwrap();
        for (identity, proven) in [(None, false), (Some(key_file), true)] {
            let options = serde_json::json!({"of": "db-backup", "identity": identity});
            let options: VerifyBackup = serde_json::from_value(options).unwrap();
            let directory = bench.path("archives");
            let kept = Kept { job: "db-backup".into(), directory, of: Backs::Files("media".into()) };
            let ran = bench.run(&*options.handed(&[("db-backup".to_owned(), kept)].into()).unwrap()).await;
            assert_eq!(ran.is_ok(), proven, "{ran:?}");
        }
    }
}

fn copy_to(bench: &Bench, port: u16) -> String {
    let bucket = S3::entry("media", port, "");
    format!(r#"[{bucket}, {{"url": "file://{}"}}]"#, bench.path("share").display())
}

fn destinations(copy_to: &str) -> Vec<Destination> {
    serde_json::from_str::<CopyTo>(copy_to).unwrap().destinations()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_where_it_is_wanted_and_a_copy_that_was_cut_is_completed_by_the_next_attempt() {
    if s3::missing() {
        return;
    }
    let s3 = S3::start();
    let network = Network::to(s3.port, 64 << 10);
    let bench = bench().await;
    std::fs::create_dir(bench.path("share")).unwrap();
    let noise =
        (0..200_000_u32).flat_map(|number| <sha2::Sha256 as sha2::Digest>::digest(number.to_le_bytes()));
    std::fs::write(bench.path("media/noise"), noise.collect::<Vec<u8>>()).unwrap();
    let copy_to = copy_to(&bench, network.port);
    let options = options(&bench, &["media"], &format!(r#", "copy_to": {copy_to}"#));
    let run = |attempt: u32| {
        let mut context = bench.context();
        (context.run, context.attempt) = (RunId(3), attempt);
        let options = options.clone();
        async move { options.run(&context).await }
    };
    let error = run(1).await.unwrap_err();
    let archives = bench.path("archives");
    let here = names(&archives);
    assert_eq!(here.len(), 2);
    let stem = here[0].strip_suffix(".manifest.json").unwrap();
    let begin = format!("the backup {stem} is whole in {}, but the copying failed: ", archives.display());
    assert!(error.to_string().starts_with(&begin) && matches!(error, JobError::Retryable(_)), "{error}");
    assert!(error.to_string().ends_with("; the next attempt only copies"), "{error}");
    assert_eq!(names(&bench.path("share")), here);
    assert!(!s3.keys().iter().any(|key| key.ends_with(".manifest.json")), "{:?}", s3.keys());

    network.mend();
    let report = run(2).await.unwrap();
    assert_eq!(names(&archives), here, "another archive was made");
    assert!(report.summary.contains(", copied to s3://backups/media, file://"), "{}", report.summary);
    assert_eq!(s3.keys(), here.iter().map(|name| format!("media/{name}")).collect::<Vec<_>>());
    let file = here.iter().find(|name| name.ends_with(".tar.gz")).unwrap();
    let content = std::fs::read(archives.join(file)).unwrap();
    assert!(s3.object(&format!("media/{file}")).unwrap() == content);
    assert!(std::fs::read(bench.path("share").join(file)).unwrap() == content);
    let copies: Vec<String> = manifest(&archives.join(file)).copies.into_iter().map(|copy| copy.to).collect();
    assert_eq!(copies.len(), 2, "{copies:?}");

    let work = bench.context().work();
    let before = look(&bench.path("media"));
    let url = format!("s3://backups/media/{file}");
    let all = destinations(&copy_to);
    let (destination, name) = copies::locate(&url, &all).unwrap().unwrap();
    let fetched = copies::fetch(&work, destination, name).await.unwrap();
    let plan = archive::plan(&fetched.path, &bench.path("ours"), bench.clock.now()).unwrap();
    archive::restore(&work, &plan, None, Progress::default()).unwrap();
    assert_eq!(look(&bench.path("ours")), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_in_a_manifest_at_once_is_all_there() {
    const ROUNDS: usize = 40;
    let bench = bench().await;
    std::fs::write(bench.path("media/a"), "content of a").unwrap();
    let (file, _) = archived(&bench, "").await;
    let (directory, _) = Directory::open(&bench.path("archives"), Owner::own(), 0o600).unwrap();
    let name =
        names(&bench.path("archives")).into_iter().find(|name| name.ends_with(".manifest.json")).unwrap();
    let work = bench.context().work();
    // Somebody else, who adds what this version doesn't know.
    let marking = {
        let (directory, name) = (directory.clone(), name.clone());
        std::thread::spawn(move || {
            for round in 0..ROUNDS {
                let mark = |text: &[u8]| {
                    let mut keys = Keys::parse(text)?;
                    let mut marks: Vec<usize> = keys.get("marks").unwrap_or_default();
                    marks.push(round);
                    keys.set("marks", &marks)?;
                    Ok(keys.to_text())
                };
                directory.change(&name, mark).unwrap();
            }
        })
    };
    let checking = {
        let (work, file) = (work.clone(), file.clone());
        std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                archive::check(&work, &file, None, Progress::default()).unwrap();
            }
        })
    };
    for round in 0..ROUNDS {
        let share = bench.path(&format!("share/{round}"));
        std::fs::create_dir_all(&share).unwrap();
        let all = destinations(&format!(r#"[{{"url": "file://{}"}}]"#, share.display()));
        copies::send(&work, &directory, &name, &all[0]).await.unwrap();
    }
    marking.join().unwrap();
    checking.join().unwrap();
    assert_eq!(manifest(&file).copies.len(), ROUNDS);
    assert_eq!(manifest(&file).proof.state, State::Verified);
    let keys = Keys::parse(&directory.read(&name).unwrap()).unwrap();
    assert_eq!(keys.get::<Vec<usize>>("marks").unwrap(), (0..ROUNDS).collect::<Vec<_>>());
    assert_eq!(names(&bench.path("archives")).len(), 2, "a file is left half-done");
}
