//! Backups that are encrypted: what can be told of them without the key, and what with it.

use std::io::Write;

use age::secrecy::ExposeSecret;
use punk_eco_sched::backup::crypt::{Identities, Recipients};
use punk_eco_sched::backup::manifest::{Manifest, State};

use super::{Kept, sha256, shop};

#[tokio::test(flavor = "multi_thread")]
async fn with_the_key_all_of_it_is_read_and_without_it_nothing_is_recorded_as_good() {
    let postgres = shop();
    let (key, keys) = new_key();
    let (_, others) = new_key();
    for way in ["", r#", "format": "custom""#] {
        let kept = Kept::of(&postgres, "shop", way).await;
        let mut encrypted = Vec::new();
        let mut writer =
            Recipients::parse(std::slice::from_ref(&key)).unwrap().encrypt(&mut encrypted).unwrap();
        writer.write_all(&kept.bytes).unwrap();
        writer.finish().unwrap();
        let manifest = Manifest {
            encrypted_to: vec![key.clone()],
            ..kept.recomputed(&encrypted, kept.manifest.uncompressed_bytes as usize)
        };
        kept.put(&encrypted, &manifest);
        let none = kept.judge_file(&kept.file(), None).await;
        let no_key = "it is encrypted, and no key was given to read it with: --identity KEYFILE gives one";
        assert_eq!(none.reasons(), [no_key]);
        let other = kept.judge_file(&kept.file(), Some(&others)).await;
        assert_eq!(other.reasons(), ["it is encrypted for other keys than the given one"]);
        assert_eq!(kept.recorded(), (State::Written, vec![]));
        assert_eq!(kept.judge_file(&kept.file(), Some(&keys)).await.reasons(), [""; 0]);
        assert_eq!(kept.recorded().0, State::ReadBack);

        // Damage is seen without the key.
        let mut flipped = encrypted.clone();
        *flipped.last_mut().unwrap() ^= 1;
        kept.put(&flipped, &manifest);
        let none = kept.judge_file(&kept.file(), None).await;
        assert_eq!((none.damage.len(), none.hindrance.as_deref()), (1, Some(no_key)));
        assert_eq!(kept.recorded().0, State::Damaged);
        // And with it, where the hash was made for it.
        kept.put(&flipped, &Manifest { encrypted_to: vec![key.clone()], ..kept.recomputed(&flipped, 0) });
        let broken = kept.judge_file(&kept.file(), Some(&keys)).await;
        assert!(broken.reasons()[0].starts_with("it breaks after "), "{:?}", broken.reasons());

        // Somebody has put the plain one in its place.
        let plain = Manifest { encrypted_to: vec![key.clone()], ..kept.manifest.clone() };
        let found = kept.reasons(&kept.bytes, &plain).await;
        assert_eq!(found, ["it is not encrypted, and was written encrypted"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_nobody_here_can_read_are_compared_by_their_bytes() {
    let postgres = shop();
    let (key, keys) = new_key();
    let kept = Kept::of(&postgres, "shop", &format!(r#", "encrypt_to": ["{key}"]"#)).await;
    let roles = kept.manifest.roles.clone().unwrap();
    let file = kept.directory.join(&roles.file);
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &flipped).unwrap();
    let what = format!("its roles file {}", roles.file);
    let differs =
        format!("{what} is not what was written: its SHA-256 is {}, not {}", sha256(&flipped), roles.sha256);
    let without = kept.judge_file(&kept.file(), None).await;
    assert_eq!(without.damage, std::slice::from_ref(&differs));
    let with = kept.judge_file(&kept.file(), Some(&keys)).await;
    assert_eq!(with.damage[0], differs);
    assert!(with.damage[1].starts_with(&format!("{what} breaks after ")), "{:?}", with.damage);
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(kept.judge_file(&kept.file(), Some(&keys)).await.reasons(), [""; 0]);
}

fn new_key() -> (String, Identities) {
    let key = age::x25519::Identity::generate();
    (key.to_public().to_string(), Identities::parse(key.to_string().expose_secret()).unwrap())
}
