//! How a verb ends when it can't do its work: a message, perhaps a hint, and the contract's exit code.

use std::fmt::Display;
use std::io;

use crate::api::Refused;
use crate::api::client::ClientError;
use crate::backup::work::Trouble;

/// Exit codes of the contract.
pub mod code {
    pub const DONE: u8 = 0;
    /// The job failed, timed out or was cancelled; also anything that no other code fits.
    pub const FAILED: u8 = 1;
    /// The command line or the file is wrong.
    pub const WRONG: u8 = 2;
    pub const NO_DAEMON: u8 = 3;
    pub const RUNS_ALREADY: u8 = 4;
}

/// An empty message: nothing is left to say.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(code: u8, message: impl Display) -> Self {
        Self { code, message: message.to_string(), hint: None }
    }

    /// The command line or the file is wrong.
    pub fn wrong(message: impl Display) -> Self {
        Self::new(code::WRONG, message)
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }
}

/// Of standard output: whoever reads it (`| head`) may have had enough, which is no error.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(code::DONE, "");
        }
        Self::new(code::FAILED, format!("standard output: {error}"))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
            let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
            let kind = kind.or_else(|| cause.downcast_ref::<serde_json::Error>()?.io_error_kind());
            kind == Some(io::ErrorKind::BrokenPipe)
        };
        if error.chain().any(broken_pipe) {
            return io::Error::from(io::ErrorKind::BrokenPipe).into();
        }
        Self::new(code::FAILED, format!("{error:#}"))
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::new(code::FAILED, trouble)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let code = match &refused {
            Refused::UnknownJob { .. } | Refused::NotRunning { .. } | Refused::BadFile(_) => code::WRONG,
            Refused::RunsAlready { .. } => code::RUNS_ALREADY,
            Refused::Other(_) => code::FAILED,
        };
        Self::new(code, refused)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refused) => refused.into(),
            ClientError::NoDaemon { .. } => {
                Self::new(code::NO_DAEMON, error).hint("is it running? `systemctl status punk-eco-sched`")
            }
            ClientError::Denied { .. }
            | ClientError::OtherProtocol { .. }
            | ClientError::Lost { .. }
            | ClientError::BadRequest(_) => Self::new(code::NO_DAEMON, error),
        }
    }
}
