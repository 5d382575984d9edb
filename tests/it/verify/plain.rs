//! Dumps that are text.

use std::io::Write;

use punk_eco_sched::backup::codec::Compression;
use punk_eco_sched::backup::manifest::{Manifest, State};
use punk_eco_sched::backup::postgres::Readers;
use punk_eco_sched::backup::read::Progress;
use punk_eco_sched::backup::verify;

use super::{Kept, sha256, shop};
use crate::pg_dump::gunzip;

const WAYS: [&str; 3] = ["", r#", "compression": "zstd""#, r#", "compression": "none""#];

fn compressed(compression: Compression, text: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Gzip => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
            writer.write_all(text).unwrap();
            writer.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(text, 3).unwrap(),
        Compression::None => text.to_vec(),
    }
}

fn text_of(kept: &Kept) -> Vec<u8> {
    match kept.manifest.compression {
        Compression::Gzip => gunzip(&kept.bytes),
        Compression::Zstd => zstd::decode_all(&kept.bytes[..]).unwrap(),
        Compression::None => kept.bytes.clone(),
    }
}

fn replaced(text: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(text).unwrap();
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    text.replace(from, to).into_bytes()
}

/// The key of `\restrict`.
fn key(text: &[u8]) -> String {
    let text = std::str::from_utf8(text).unwrap();
    let line =
        text.lines().find(|line| line.starts_with("\\restrict ")).expect("this pg_dump writes \\restrict");
    line["\\restrict ".len()..].to_owned()
}

const ROWS: &str = "table public.orders has 2 rows where 3 were dumped";

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_is_refused_and_all_of_its_reasons_are_told() {
    let postgres = shop();
    for way in WAYS {
        let kept = Kept::of(&postgres, "shop", way).await;
        let expected = &kept.manifest;
        let text = text_of(&kept);
        let is_not = |bytes: &[u8]| {
            format!("it is not what was written: its SHA-256 is {}, not {}", sha256(bytes), expected.sha256)
        };
        let has =
            |bytes: &[u8]| format!("it has {} bytes where {} were written", bytes.len(), expected.bytes);
        let content = |text: &[u8]| {
            format!("its content has {} bytes where {} were dumped", text.len(), text_of(&kept).len())
        };

        // A row is gone.
        let fewer = replaced(&text, "2\ta\\tb\n", "");
        let file = compressed(expected.compression, &fewer);
        let found = kept.reasons(&file, expected).await;
        assert_eq!(found, [has(&file), is_not(&file), content(&fewer), ROWS.to_owned()], "{way}");
        let found = kept.reasons(&file, &kept.recomputed(&file, fewer.len())).await;
        assert_eq!(found, [ROWS], "{way}");
        assert_eq!(kept.recorded(), (State::Damaged, vec![ROWS.to_owned()]));
        let found = kept.reasons(&file, &kept.recomputed(&file, text.len())).await;
        assert_eq!(found, [content(&fewer), ROWS.to_owned()]);

        // Tables are gone, and one is there that was not dumped.
        let other = replaced(&text, "COPY public.orders (id, what)", "COPY public.other (id, what)");
        let file = compressed(expected.compression, &other);
        let found = kept.reasons(&file, &kept.recomputed(&file, other.len())).await;
        assert_eq!(
            found,
            [
                "table public.orders is missing, of which 3 rows were dumped",
                "table public.other is in it, and was not dumped"
            ]
        );

        // Two dumps in one file.
        let (two, texts) = ([&kept.bytes[..], &kept.bytes].concat(), [&text[..], &text].concat());
        let follows = "something follows its closing comment: is it two dumps in one file?";
        let double = ["Clients é has 4 rows where 2", "orders has 6 rows where 3"]
            .map(|words| format!("table public.{words} were dumped"));
        let mut all = vec![has(&two), is_not(&two), content(&texts), follows.to_owned()];
        all.extend(double.clone());
        assert_eq!(kept.reasons(&two, expected).await, all);
        let found = kept.reasons(&two, &kept.recomputed(&two, texts.len())).await;
        assert_eq!(found, [&[follows.to_owned()][..], &double].concat());
        // With its rows too.
        let rows = kept.manifest.tables.iter().cloned().map(|mut table| {
            table.rows *= 2;
            table
        });
        let same = Manifest {
            tables: rows.collect(),
            rows: 2 * kept.manifest.rows,
            ..kept.recomputed(&two, texts.len())
        };
        assert_eq!(kept.reasons(&two, &same).await, [follows]);

        // The end of another dump.
        let old = "OldKeyOfTheNightBefore0OldKeyOfTheNightBefore0OldKeyOfTheNight0";
        let mixed = replaced(&text, &format!("\\unrestrict {}", key(&text)), &format!("\\unrestrict {old}"));
        let file = compressed(expected.compression, &mixed);
        let found = kept.reasons(&file, &kept.recomputed(&file, mixed.len())).await;
        assert_eq!(
            found,
            [r"its `\unrestrict` has another key than its `\restrict`: its end is another dump's"]
        );
        assert!(kept.reasons(&file, expected).await.contains(&is_not(&file)));

        // A block that the disk lost.
        let mut holed = text.clone();
        let at = holed.windows(3).position(|bytes| bytes == b"tea").unwrap();
        holed[at..at + 3].fill(0);
        let file = compressed(expected.compression, &holed);
        let found = kept.reasons(&file, &kept.recomputed(&file, holed.len())).await;
        assert_eq!(
            found,
            [format!("there is a NUL byte at byte {at} of its content, where no dump holds any")]
        );

        // Nothing is left, or another form of it.
        let found = kept.reasons(b"", expected).await;
        assert_eq!(found[0], format!("it is empty: {} bytes were written", expected.bytes));
        assert!(found.contains(&"it breaks off: the closing comment of the dump is missing".to_owned()));
        let other = if way.is_empty() { Compression::Zstd } else { Compression::Gzip };
        let file = compressed(other, &text);
        let found = kept.reasons(&file, &kept.recomputed(&file, text.len())).await;
        let word = |compression| match compression {
            Compression::Gzip => "compressed with gzip",
            Compression::Zstd => "compressed with zstd",
            Compression::None => "not compressed",
        };
        assert_eq!(found, [format!("it is {}, and was {}", word(other), word(expected.compression))]);

        // And whole again it is good: damage in the manifest is no verdict for ever.
        let damaged = kept.judge_file(&kept.file(), None).await.manifest.unwrap();
        assert_eq!(damaged.proof.state, State::Damaged);
        kept.put(&kept.bytes, &Manifest { proof: damaged.proof, ..expected.clone() });
        assert!(kept.judge_file(&kept.file(), None).await.good());
        let good =
            "read whole: size, SHA-256, 3 tables with 5 rows and the roles are those that were written";
        let (state, events) = kept.recorded();
        assert_eq!((state, events.last().unwrap().as_str()), (State::ReadBack, good));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_at_any_byte_or_has_one_bit_changed_is_refused() {
    let postgres = shop();
    for way in WAYS {
        let mut kept = Kept::of(&postgres, "shop", &format!(r#"{way}, "roles": false"#)).await;
        // Nothing is to be written into the manifest so often.
        kept.bench.dry_run = true;
        let text = text_of(&kept);
        for at in 0..kept.bytes.len() {
            let found = kept.reasons(&kept.bytes[..at], &kept.manifest).await;
            assert!(found.len() >= 2, "{way}: cut at {at}: {found:?}");
        }
        for bit in (0..kept.bytes.len() * 8).step_by(61) {
            let mut flipped = kept.bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let found = kept.reasons(&flipped, &kept.manifest).await;
            assert!(found[0].starts_with("it is not what was written: its SHA-256 is "), "{found:?}");
        }
        // The manifest was made for what is left: of compressed ones that changes nothing, and of text all is missed but
        // the empty lines of its end.
        let cuts =
            if kept.manifest.compression == Compression::None { text.trim_ascii_end().len() } else { 0 };
        for at in 0..cuts {
            kept.reasons(&kept.bytes[..at], &kept.recomputed(&kept.bytes[..at], at)).await;
        }
        assert_eq!(kept.recorded().0, State::Written);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_where_a_gzip_member_ends_is_refused() {
    let postgres = shop();
    let kept = Kept::of(&postgres, "shop", "").await;
    let text = text_of(&kept);
    let breaks_off = "it breaks off: the closing comment of the dump is missing";
    let gone = |schema_and_name: &str, rows: u64| {
        format!("table {schema_and_name} is missing, of which {rows} rows were dumped")
    };
    let cut = text.windows(5).position(|bytes| bytes == b"COPY ").unwrap();
    let member = compressed(Compression::Gzip, &text[..cut]);
    let found = kept.reasons(&member, &kept.recomputed(&member, cut)).await;
    assert_eq!(
        found,
        [
            breaks_off.to_owned(),
            gone("public.Clients é", 2),
            gone("public.nothing", 0),
            gone("public.orders", 3)
        ]
    );
    // The next member was to hold the last lines alone.
    let closing = "-- PostgreSQL database dump complete";
    let cut = String::from_utf8(text).unwrap().find(closing).unwrap();
    let member = compressed(Compression::Gzip, &text_of(&kept)[..cut]);
    assert_eq!(kept.reasons(&member, &kept.recomputed(&member, cut)).await, [breaks_off]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_missing_or_another_s_is_refused() {
    let postgres = shop();
    postgres.sql("postgres", "CREATE DATABASE blog");
    let kept = Kept::of(&postgres, "shop", "").await;
    let manifest = &kept.manifest;
    let name = &manifest.file;
    let beside = kept.manifest_file().file_name().unwrap().to_str().unwrap().to_owned();

    std::fs::remove_file(kept.manifest_file()).unwrap();
    let verdict = kept.judge_file(&kept.file(), None).await;
    let missing = format!(
        "there is no manifest {beside} beside it: nothing says what should be in it. `punk-eco-sched restore db` takes \
         a dump without a manifest and shows what is in it"
    );
    assert_eq!(verdict.reasons(), [missing.as_str()]);
    let work = kept.bench.context().work();
    let error = verify::check(&work, &kept.file(), None, &Readers::default(), Progress::default())
        .await
        .err()
        .unwrap();
    assert_eq!(error.to_string(), format!("{} can't be checked: {missing}", kept.file().display()));

    let check = async |bytes: &[u8], changed: &Manifest, expected: &[String]| {
        assert_eq!(kept.reasons(bytes, changed).await, expected);
    };
    // Of another night, which learns nothing from this one.
    let other = Kept::of(&postgres, "blog", "").await;
    let of_other = format!("the manifest beside it is that of {}", other.manifest.file);
    kept.put(&kept.bytes, &other.manifest);
    let verdict = kept.judge_file(&kept.file(), None).await;
    assert_eq!(verdict.reasons()[0], of_other);
    assert!(verdict.reasons().iter().any(|reason| reason.starts_with("it is not what was written")));
    assert_eq!(kept.recorded(), (State::Written, vec![]));

    // Of another database, whose size and hash are right.
    let changed = Manifest { database: "blog".into(), ..manifest.clone() };
    let database = "it is named for another database than blog, which its manifest names".to_owned();
    check(&kept.bytes, &changed, &[database]).await;
    // Of another time.
    let started_at = manifest.started_at - jiff::SignedDuration::from_hours(24);
    let changed = Manifest { started_at, ..manifest.clone() };
    let found = kept.reasons(&kept.bytes, &changed).await;
    assert!(found.len() == 1 && found[0].starts_with("it is named for 20"), "{found:?}");
    // One whose rows don't add up.
    let changed = Manifest { rows: 6, ..manifest.clone() };
    let found = kept.reasons(&kept.bytes, &changed).await;
    assert_eq!(found, ["its manifest contradicts itself: 6 rows in all, and 5 in its tables"]);
    // One that can't be read, or of a later version.
    let after = "`punk-eco-sched restore db` takes the dump without it";
    for (text, why) in [
        ("{", "EOF while parsing an object at line 1 column 1"),
        (
            &String::from_utf8(Manifest { format_version: 2, ..manifest.clone() }.to_json()).unwrap(),
            "format_version 2 is newer than 1, the newest that this program knows",
        ),
    ] {
        std::fs::write(kept.manifest_file(), text).unwrap();
        let verdict = kept.judge_file(&kept.file(), None).await;
        assert_eq!(verdict.reasons(), [format!("its manifest {beside} can't be used: {why}. {after}")]);
    }
    std::fs::write(kept.manifest_file(), r#"{"kind": "cassette"}"#).unwrap();
    let verdict = kept.judge_file(&kept.file(), None).await;
    let unknown = format!("its manifest {beside} is that of a backup of the kind \"cassette\", unknown here");
    assert_eq!(verdict.reasons(), [unknown]);

    // The file itself under another name.
    kept.put(&kept.bytes, manifest);
    let renamed = kept.directory.join(name.replace(".sql.gz", ".sql"));
    std::fs::rename(kept.file(), &renamed).unwrap();
    let verdict = kept.judge_file(&renamed, None).await;
    assert_eq!(verdict.reasons(), [format!("the manifest beside it is that of {name}")]);
    assert_eq!(kept.recorded(), (State::Written, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_are_a_part_of_the_backup() {
    let postgres = shop();
    let kept = Kept::of(&postgres, "shop", "").await;
    let mut roles = kept.manifest.roles.clone().unwrap();
    let file = kept.directory.join(&roles.file);
    let whole = std::fs::read(&file).unwrap();
    let what = format!("its roles file {}", roles.file);

    std::fs::remove_file(&file).unwrap();
    assert_eq!(kept.reasons(&kept.bytes, &kept.manifest).await, [format!("{what} is missing")]);
    let text = gunzip(&whole);
    let cut = compressed(Compression::Gzip, &text[..text.len() / 2]);
    std::fs::write(&file, &cut).unwrap();
    let breaks_off = format!("{what} breaks off: the closing comment of the dump is missing");
    assert_eq!(
        kept.reasons(&kept.bytes, &kept.manifest).await,
        [
            format!("{what} has {} bytes where {} were written", cut.len(), roles.bytes),
            format!("{what} is not what was written: its SHA-256 is {}, not {}", sha256(&cut), roles.sha256),
            breaks_off.clone(),
        ]
    );
    (roles.bytes, roles.sha256) = (cut.len() as u64, sha256(&cut));
    let recomputed = Manifest { roles: Some(roles.clone()), ..kept.manifest.clone() };
    assert_eq!(kept.reasons(&kept.bytes, &recomputed).await, [breaks_off]);
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let found = kept.reasons(&kept.bytes, &recomputed).await;
    assert!(found[2].starts_with(&format!("{what} breaks after ")), "{found:?}");
    roles.file = "../roles.sql.gz".into();
    let elsewhere = Manifest { roles: Some(roles), ..kept.manifest.clone() };
    let expected = "its roles file ../roles.sql.gz, as its manifest calls it, is no name of a file beside it";
    assert_eq!(kept.reasons(&kept.bytes, &elsewhere).await, [expected]);
}
