//! Compresses a stream block by block, so that blocks can be worked on side by side.
//!
//! Each block becomes a gzip member or a zstd frame of its own; both formats define a file as the sequence of
//! these (RFC 1952 section 2.2, RFC 8878 section 3), and `gunzip` and `zstd -d` read it as one stream.

use flate2::{Compress, FlushCompress, Status};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a dump is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    Gzip,
    Zstd,
    None,
}

impl Compression {
    /// gzip's own default; zstd's 3 compresses better than that at several times the speed.
    pub fn default_level(self) -> u32 {
        match self {
            Self::Gzip => 6,
            Self::Zstd => 3,
            Self::None => 0,
        }
    }

    /// Above zstd's 19 lie levels that want gigabytes of memory.
    pub fn highest_level(self) -> u32 {
        match self {
            Self::Gzip => 9,
            Self::Zstd => 19,
            Self::None => 0,
        }
    }

    /// Bytes compressed as one: large enough that starting without history costs little (measured: below 1 % of
    /// the output), small enough that a dozen of them are nothing. zstd is a fifth faster with 1 MiB than with 2,
    /// whose tables no longer fit beside it in a core's cache.
    pub(super) fn block_size(self) -> usize {
        match self {
            Self::None | Self::Zstd => 1 << 20,
            Self::Gzip => 2 << 20,
        }
    }
}

/// The compressor of one thread.
pub(super) enum Codec {
    Gzip(Box<Compress>),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Codec {
    /// `None`: nothing is compressed.
    pub(super) fn new(compression: Compression, level: u32) -> std::io::Result<Option<Self>> {
        Ok(match compression {
            Compression::Gzip => {
                let level = flate2::Compression::new(zlib_level(level));
                Some(Self::Gzip(Box::new(Compress::new(level, false))))
            }
            Compression::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(i32::try_from(level).unwrap_or(3))?;
                compressor.include_checksum(true)?;
                Some(Self::Zstd(Box::new(compressor)))
            }
            Compression::None => None,
        })
    }

    pub(super) fn compress(&mut self, block: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        out.clear();
        match self {
            Self::Gzip(deflate) => gzip_member(deflate, block, out),
            Self::Zstd(compressor) => {
                out.reserve(zstd::zstd_safe::compress_bound(block.len()));
                compressor.compress_to_buffer(block, out).map(|_| ())
            }
        }
    }
}

/// What gzip's level is for zlib-rs. Its 5 makes no more bytes than gzip's 6 and takes two thirds of the time of its
/// own 6 (measured on text, JSON and hashes: ARCHITECTURE.md).
fn zlib_level(level: u32) -> u32 {
    if level == 6 { 5 } else { level }
}

/// RFC 1952: no name, no time, "Unix".
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

fn gzip_member(deflate: &mut Compress, block: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    deflate.reset();
    out.reserve(block.len() / 3 + 1024);
    out.extend_from_slice(&GZIP_HEADER);
    loop {
        let used = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        match deflate.compress_vec(&block[used..], out, FlushCompress::Finish)? {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError => out.reserve(block.len() / 3 + 1024),
        }
    }
    out.extend_from_slice(&crc32fast::hash(block).to_le_bytes());
    // The size of the input modulo 2^32.
    out.extend_from_slice(&(block.len() as u32).to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_block_of_any_kind_is_read_back_by_the_format_s_own_reader() {
        let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for block in [&b""[..], b"x", &[b'a'; 100_000], &noise] {
            let mut gzip = Codec::new(Compression::Gzip, 6).unwrap().unwrap();
            let mut zstd = Codec::new(Compression::Zstd, 3).unwrap().unwrap();
            let mut out = Vec::new();
            for _ in 0..2 {
                gzip.compress(block, &mut out).unwrap();
                let mut back = Vec::new();
                flate2::read::GzDecoder::new(&out[..]).read_to_end(&mut back).unwrap();
                assert!(back == block);
                zstd.compress(block, &mut out).unwrap();
                assert!(zstd::decode_all(&out[..]).unwrap() == block);
            }
        }
    }
}
