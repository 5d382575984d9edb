//! Archives that are not what was written: each is refused with its reason, and a restore touches nothing.

use super::{archived, bench, check};
use crate::support::job::names;
use punk_eco_sched::backup::archive;
use punk_eco_sched::backup::read::Progress;

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_told_and_never_restored() {
    let bench = bench().await;
    std::fs::write(bench.path("media/a"), "content of a").unwrap();
    std::fs::write(bench.path("media/b"), "content of b").unwrap();
    let (file, _) = archived(&bench, r#", "compression": "none""#).await;
    let good = std::fs::read(&file).unwrap();
    let manifest_file = file.with_extension("manifest.json");
    let manifest = std::fs::read_to_string(&manifest_file).unwrap();
    std::fs::create_dir(bench.path("live")).unwrap();
    std::fs::write(bench.path("live/precious"), "").unwrap();
    let around = names(bench.folder.path());

    let refused = |bytes: &[u8], manifest: &str, expected: &str| {
        std::fs::write(&file, bytes).unwrap();
        std::fs::write(&manifest_file, manifest).unwrap();
        let error = check(&bench, &file).unwrap_err();
        assert!(error.contains(expected), "{error}\n{expected}");
        // Some are refused with the plan, all of them before anything is touched.
        let now = bench.clock.now();
        let restored = archive::plan(&file, &bench.path("live"), now).and_then(|plan| {
            archive::restore(&bench.context().work(), &plan, None, Progress::default()).map(|_| ())
        });
        assert!(restored.is_err(), "{expected}");
        assert_eq!(names(bench.folder.path()), around, "{expected}");
        assert_eq!(names(&bench.path("live")), ["precious"]);
    };
    let at = good.windows(12).position(|window| window == b"content of b").unwrap();
    let mut flipped = good.clone();
    flipped[at] ^= 1;
    refused(&flipped, &manifest, "/b: its content is not that of the manifest (SHA-256)");
    refused(&good[..at + 4], &manifest, "it ends in the middle: the file was cut");
    refused(&good[..good.len() - 1024], &manifest, "its end mark is missing");
    refused(b"", &manifest, "its end mark is missing");
    refused(&[&good[..], &good[..]].concat(), &manifest, "something follows its end");
    // A whole entry taken out: tar itself sees nothing wrong with that.
    let header = at - 512;
    refused(
        &[&good[..header], &good[header + 1024..]].concat(),
        &manifest,
        "1 entries of the manifest are missing",
    );
    refused(
        &good,
        &manifest.replace(r#""mode":"0644""#, r#""mode":"0600""#),
        "its mode is not that of the manifest",
    );
    refused(&good, &manifest[..manifest.len() / 2], "can't be understood");
    refused(
        &good,
        &manifest.replace(r#""kind": "archive""#, r#""kind": "tape""#),
        "its kind is tape, not archive",
    );
    refused(
        &good,
        r#"{"format_version": 1, "database": "shop"}"#,
        "it is a dump of the database shop, no archive",
    );

    std::fs::write(&file, &good).unwrap();
    std::fs::write(&manifest_file, &manifest).unwrap();
    let checked = check(&bench, &file).unwrap();
    assert_eq!(checked.manifest.proof.events.len(), 2);
    std::fs::remove_file(&manifest_file).unwrap();
    assert!(
        check(&bench, &file)
            .unwrap_err()
            .ends_with("its manifest media-20261122T230000Z.manifest.json is not there")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cut_and_every_flipped_bit_of_a_compressed_archive_is_found() {
    let bench = bench().await;
    std::fs::write(bench.path("media/a"), "a".repeat(5000)).unwrap();
    for compression in ["gzip", "zstd"] {
        let (file, _) = archived(&bench, &format!(r#", "compression": "{compression}""#)).await;
        let good = std::fs::read(&file).unwrap();
        for at in (0..good.len()).step_by(13) {
            std::fs::write(&file, &good[..at]).unwrap();
            assert!(check(&bench, &file).is_err(), "{compression} cut at {at}");
            let mut flipped = good.clone();
            flipped[at] ^= 4;
            std::fs::write(&file, flipped).unwrap();
            assert!(check(&bench, &file).is_err(), "{compression} flipped at {at}");
        }
        std::fs::write(&file, &good).unwrap();
        check(&bench, &file).unwrap();
    }
}
