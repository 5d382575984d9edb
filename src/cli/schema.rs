//! `schema`: the JSON Schema of jobs.yaml, for editors.

use std::io::{self, Write};

/// # Errors
/// Where `out` can't be written.
pub fn schema(out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &crate::config::schema())?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_document_with_every_kind_is_printed() {
        let mut out = Vec::new();
        super::schema(&mut out).unwrap();
        let schema: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let job = schema["$defs"]["Job"]["properties"].as_object().unwrap();
        let missing: Vec<_> =
            crate::jobs::KINDS.iter().map(|kind| kind.name).filter(|name| !job.contains_key(*name)).collect();
        assert_eq!(missing, Vec::<&str>::new());
        assert!(out.ends_with(b"}\n"));
    }
}
