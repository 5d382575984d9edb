//! Custom dumps, which only pg_restore can read.

use punk_eco_sched::backup::manifest::{Manifest, State};

use super::{Kept, shop};

const CUSTOM: &str = r#", "format": "custom""#;

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_dump_is_read_to_its_end() {
    let postgres = shop();
    for way in ["", r#", "compression": "none""#] {
        let kept = Kept::of(&postgres, "shop", &format!("{CUSTOM}{way}")).await;
        let verdict = kept.judge_file(&kept.file(), None).await;
        assert_eq!(verdict.reasons(), [""; 0]);
        assert_eq!(verdict.examined.unwrap().counted.tables.len(), 3);
        let tools = verdict.manifest.unwrap().proof.events.pop().unwrap().tools.unwrap();
        assert!(tools.ends_with(&format!(", pg_restore {}", kept.manifest.client_version)), "{tools}");
        assert_eq!(kept.recorded().0, State::ReadBack);

        // Every cut breaks it for pg_restore or for our own walk over it, whatever the manifest says.
        for at in (0..kept.bytes.len()).step_by(kept.bytes.len() / 12).skip(1).chain([kept.bytes.len() - 1]) {
            let cut = &kept.bytes[..at];
            let found =
                kept.reasons(cut, &kept.recomputed(cut, kept.manifest.uncompressed_bytes as usize)).await;
            assert!(
                found.iter().any(|reason| reason.starts_with("pg_restore can't read it to its end: ")
                    || reason == "it ends in the middle of its data"),
                "cut at {at} of {}: {found:?}",
                kept.bytes.len()
            );
        }
        let mut flipped = kept.bytes.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let found = kept.reasons(&flipped, &kept.manifest).await;
        assert!(found[0].starts_with("it is not what was written: its SHA-256 is "), "{found:?}");
        let empty = kept.reasons(b"", &kept.recomputed(b"", 0)).await;
        assert_eq!(empty[0], "it is a dump in the format plain, not custom");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pg_restore_does_not_see_is_refused_too() {
    let postgres = shop();
    postgres.sql("postgres", "CREATE DATABASE blog TEMPLATE shop");
    let kept = Kept::of(&postgres, "shop", CUSTOM).await;
    let length = kept.manifest.uncompressed_bytes as usize;

    let two = [&kept.bytes[..], &kept.bytes].concat();
    let follows = "something follows the last of its data: is it two dumps in one file?";
    assert_eq!(kept.reasons(&two, &kept.recomputed(&two, length)).await, [follows]);

    // The dump of another database with the same tables, under this one's name.
    let blog = Kept::of(&postgres, "blog", CUSTOM).await;
    let found = kept.reasons(&blog.bytes, &kept.recomputed(&blog.bytes, length)).await;
    assert_eq!(found, ["it is a dump of the database blog, and its manifest names shop"]);

    postgres.sql("shop", "DELETE FROM orders WHERE id = 2");
    let fewer = Kept::of(&postgres, "shop", CUSTOM).await;
    let length = fewer.manifest.uncompressed_bytes as usize;
    let found = kept.reasons(&fewer.bytes, &kept.recomputed(&fewer.bytes, length)).await;
    assert_eq!(found, ["table public.orders has 2 rows where 3 were dumped"]);
    // What another version of pg_restore writes may be longer; what this one writes may not.
    let found = kept.reasons(&fewer.bytes, &kept.recomputed(&fewer.bytes, length + 1)).await;
    assert_eq!(found[0], format!("its content has {length} bytes where {} were dumped", length + 1));
    let other = Manifest { client_version: "14.2".into(), ..kept.recomputed(&fewer.bytes, length + 1) };
    assert_eq!(
        kept.reasons(&fewer.bytes, &other).await,
        ["table public.orders has 2 rows where 3 were dumped"]
    );
}
