use std::io::Write;

use super::*;
use crate::backup::count::TableRows;

const DUMP: &[u8] =
    b"--\n-- PostgreSQL database dump\n--\n\nCOPY public.orders (id) FROM stdin;\n1\n2\n\\.\n\n\
    -- PostgreSQL database dump complete\n";

fn read(bytes: &[u8]) -> Result<Examined, ReadError> {
    let reading = Reading::of(Box::new(io::Cursor::new(bytes.to_vec())), None, Progress::default())?;
    reading.examine(&CancellationToken::new(), |_| Ok(()))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

#[test]
fn whatever_it_is_compressed_with_the_content_is_counted_and_the_file_is_hashed() {
    let (one, other) = DUMP.split_at(60);
    let members = [gzip(one), gzip(other)].concat();
    let frames = [zstd::encode_all(one, 3).unwrap(), zstd::encode_all(other, 3).unwrap()].concat();
    for (file, compression) in
        [(DUMP.to_vec(), Compression::None), (members, Compression::Gzip), (frames, Compression::Zstd)]
    {
        let found = read(&file).unwrap();
        assert_eq!(found.form, Form { encrypted: false, compression, format: Format::Plain });
        assert_eq!((found.bytes, found.uncompressed_bytes), (file.len() as u64, DUMP.len() as u64));
        assert_eq!(found.sha256, hex(&Sha256::digest(&file)));
        let orders = TableRows { schema: "public".into(), name: "orders".into(), rows: 2 };
        assert_eq!((found.counted.tables, found.counted.complete), (vec![orders], true));
    }
}

#[test]
fn a_file_that_is_cut_or_changed_is_said_to_break() {
    for file in [gzip(DUMP), zstd::encode_all(DUMP, 3).unwrap()] {
        for at in 5..file.len() {
            assert!(
                matches!(read(&file[..at]), Err(ReadError::Broken { .. })),
                "cut at {at} of {}",
                file.len()
            );
        }
        let more = [&file[..], b"more"].concat();
        assert!(matches!(read(&more), Err(ReadError::Broken { .. })));
    }
    let error = read(&gzip(DUMP)[..40]).unwrap_err().to_string();
    assert!(error.ends_with("it ends in the middle: the file was cut"), "{error}");
}
