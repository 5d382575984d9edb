//! Compresses a stream block by block, so that blocks can be worked on side by side.
//!
//! Each block becomes a gzip member or a zstd frame of its own; both formats define a file as the sequence of
//! these (RFC 1952 section 2.2, RFC 8878 section 3), and `gunzip` and `zstd -d` read it as one stream.

use libdeflater::{CompressionLvl, Compressor};
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
    pub fn word(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::None => "none",
        }
    }

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
    Gzip(Gzip),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Codec {
    /// `None`: nothing is compressed.
    pub(super) fn new(compression: Compression, level: u32) -> std::io::Result<Option<Self>> {
        Ok(match compression {
            Compression::Gzip => Some(Self::Gzip(Gzip::new(level)?)),
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
            Self::Gzip(gzip) => gzip.member(block, out),
            Self::Zstd(compressor) => {
                out.reserve(zstd::zstd_safe::compress_bound(block.len()));
                compressor.compress_to_buffer(block, out).map(|_| ())
            }
        }
    }
}

/// libdeflate's levels 1 to 9 make, each, about what gzip's do (measured: ARCHITECTURE.md).
pub(super) struct Gzip {
    usual: Compressor,
    /// For blocks that shrink to next to nothing, where the usual level passes over the longest matches: 2 % more
    /// than gzip then, and with the next level a quarter less.
    thorough: Compressor,
    repetitive: bool,
    room: Vec<u8>,
}

/// Blocks that shrink to less than this share of themselves are repetitive.
const REPETITIVE: usize = 24;

impl Gzip {
    fn new(level: u32) -> std::io::Result<Self> {
        let level = i32::try_from(level).unwrap_or(6);
        let compressor = |level: i32| {
            let level = CompressionLvl::new(level).map_err(|_| std::io::Error::other("no such level"))?;
            Ok::<_, std::io::Error>(Compressor::new(level))
        };
        Ok(Self {
            usual: compressor(level)?,
            // Above 9 libdeflate looks for the optimum, which takes ten times as long.
            thorough: compressor((level + 1).min(9))?,
            repetitive: false,
            room: Vec::new(),
        })
    }

    fn member(&mut self, block: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        // The blocks of a table are alike: what the last one was tells what this one is.
        let compressor = if self.repetitive { &mut self.thorough } else { &mut self.usual };
        let bound = compressor.gzip_compress_bound(block.len());
        if self.room.len() < bound {
            self.room.resize(bound, 0);
        }
        let size = compressor.gzip_compress(block, &mut self.room).map_err(std::io::Error::other)?;
        self.repetitive = size * REPETITIVE < block.len();
        out.extend_from_slice(&self.room[..size]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_block_of_any_kind_is_read_back_by_the_format_s_own_reader() {
        let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for block in [&b""[..], b"x", &[b'a'; 100_000], &noise] {
            // The second time with what the first has shown of the block.
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
