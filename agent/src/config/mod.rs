//! The agent's settings: `/etc/mainstay/agent.toml` and its drop-ins in `agent.d/*.toml`.
//!
//! In: files. Out: [`Settings`] that can be used as they are, or every [`Problem`] with its file,
//! line and column. Nothing is taken from a file that has a mistake. Secrets never stand in here,
//! only the files that hold them.

mod load;
mod notify;
mod otlp;
mod secret;
mod settings;

pub use load::{Files, load};
pub use mainstay_core::config::Problem;
pub use notify::{SmtpTarget, SmtpTls, Target, WebhookTarget};
pub use otlp::OtlpSettings;
pub use secret::{SecretError, SecretFile};
pub use settings::{LogFormat, LogSettings, Settings, StateSettings, read};
