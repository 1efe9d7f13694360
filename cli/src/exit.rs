//! How a command ends: the documented exit codes, and a failure with its code.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of every command but `mainstay check`, which follows Nagios (0 ok, 1 warning,
/// 2 critical, 3 unknown).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Done, and the answer is no: a diff differs, a chain is broken, a host refused.
    No = 1,
    /// The command line, a file or a key is not as it should be.
    Usage = 2,
    /// The collector cannot be reached.
    Unreachable = 3,
    /// The collector did not answer in time.
    Timeout = 4,
    /// The certificate, or its role, does not allow this.
    NotPermitted = 5,
    /// There is nothing by this name.
    NotFound = 6,
    /// Anything else.
    Failed = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not be carried out, in words that say what to do next.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    text: String,
}

impl Failure {
    /// A failure with these words.
    pub fn new(exit: Exit, text: impl fmt::Display) -> Self {
        Self { exit, text: text.to_string() }
    }

    /// The same failure with more words behind it.
    pub fn and(self, more: impl fmt::Display) -> Self {
        Self { text: format!("{}{more}", self.text), ..self }
    }

    /// Something given by the operator is not as it should be.
    pub fn usage(text: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mainstay: {}", self.text)
    }
}

impl std::error::Error for Failure {}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        let exit = match status.code() {
            Code::Unavailable => Exit::Unreachable,
            Code::DeadlineExceeded | Code::Cancelled => Exit::Timeout,
            Code::PermissionDenied | Code::Unauthenticated => Exit::NotPermitted,
            Code::NotFound => Exit::NotFound,
            Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition => Exit::Usage,
            _ => Exit::Failed,
        };
        Self::new(exit, status.message())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_the_collector_keep_their_words_and_get_their_code() {
        let failure = Failure::from(tonic::Status::permission_denied("role viewer may not push policies"));
        assert_eq!(failure.exit, Exit::NotPermitted);
        assert_eq!(failure.to_string(), "mainstay: role viewer may not push policies");
        assert_eq!(Failure::from(tonic::Status::not_found("x")).exit, Exit::NotFound);
    }
}
