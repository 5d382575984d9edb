//! YAML with positions, read into plain serde types with every problem gathered in one pass.
//!
//! Knows no key of jobs.yaml: `config` and the kinds of job say what they expect through their types.

/// What a type can't say by itself about an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The key it is about, `a.b` for a nested one; empty: the whole.
    pub key: String,
    pub message: String,
    pub hint: Option<String>,
}

/// Something wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    pub severity: ProblemSeverity,
    /// 1-based; absent for what has no place in the file.
    pub line: Option<u32>,
    pub column: Option<u32>,
    /// `jobs.db-backup.pg_dump.level`
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemSeverity {
    Error,
    Warning,
}

/// One value of the document and where problems with it go.
pub struct Reader<'a> {
    _marker: std::marker::PhantomData<&'a ()>,
}

impl Reader<'_> {
    /// Reads the value as `T`: every unknown key, wrong type and missing key is a problem with its place; then
    /// asks `invalid`. `None` where there was any problem.
    pub fn read<T: serde::de::DeserializeOwned>(&mut self, _invalid: fn(&T) -> Vec<Invalid>) -> Option<T> {
        unimplemented!()
    }
}
