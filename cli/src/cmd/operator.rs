//! `mainstay operator create`: a certificate for a person, made on the collector's machine.

use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use mainstay_proto::v1::CreateOperatorRequest;
use std::io::Write as _;

use crate::connect;
use crate::context::{CA, CERTIFICATE, COLLECTOR, Context, KEY, OPERATOR};
use crate::exit::{Exit, Failure};
use crate::output;

/// The collector's root-only socket.
const SOCKET: &str = "/run/mainstay-collector/admin.sock";

/// What can be done about operators.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Make a key and a certificate for an operator (root, on the collector's machine)
    Create {
        /// The operator's name, as it is recorded with every command
        name: String,
        /// What the operator may do
        #[arg(long, value_enum)]
        role: Role,
        /// Folder to make (default: the configuration folder, if it has no certificate yet)
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// The collector's socket
        #[arg(long, default_value = SOCKET)]
        socket: PathBuf,
    },
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Look
    Viewer,
    /// Look, approve, hold and undo
    Operator,
    /// Everything, enrolment and policies included
    Admin,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Carries the command out.
pub(crate) async fn run(command: &OperatorCommand, context: &Context) -> Result<Exit, Failure> {
    let OperatorCommand::Create { name, role, out, socket } = command;
    let folder = out.as_ref().unwrap_or(&context.folder);
    for file in [CERTIFICATE, KEY] {
        if folder.join(file).exists() {
            return Err(Failure::usage(format!(
                "{} is there already: name another folder with --out, or remove it",
                folder.join(file).display()
            )));
        }
    }
    let key = rcgen::KeyPair::generate().map_err(|error| Failure::new(Exit::Failed, error))?;
    let csr = rcgen::CertificateParams::default()
        .serialize_request(&key)
        .and_then(|request| request.pem())
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    let request = CreateOperatorRequest { name: name.clone(), role: role.as_str().to_owned(), csr };
    let answer = connect::local_commands(socket).await?.create_operator(request).await?.into_inner();
    make_folder(folder)?;
    write_new(&folder.join(KEY), key.serialize_pem().as_bytes(), 0o600)?;
    write_new(&folder.join(CERTIFICATE), answer.certificate.as_bytes(), 0o644)?;
    std::fs::write(folder.join(CA), &answer.ca)?;
    std::fs::write(folder.join(COLLECTOR), format!("{}\n", answer.address))?;
    std::fs::write(folder.join(OPERATOR), format!("{name}\n"))?;
    output::say(&format!(
        "{name} is {} of the collector at {}; certificate, key and CA are in {}",
        role.as_str(),
        answer.address,
        folder.display()
    ));
    Ok(Exit::Success)
}

/// Makes a folder that only its owner reads.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| Failure::usage(format!("cannot make {}: {error}", folder.display())))
}

/// Writes a file that must not be there yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
}
