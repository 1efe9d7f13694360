//! `mainstay-collector restore`: a backup put onto this machine, before the collector runs here.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::backup::{manifest, restore, seal::BackupKey, shelf};
use crate::clock;
use crate::run::Paths;

/// What is restored.
#[derive(Debug, Clone, clap::Args)]
pub struct RestoreArgs {
    /// A backup, or the folder that holds several, of which the newest is taken
    #[arg(value_name = "FOLDER")]
    pub backup: PathBuf,
    /// File with the key that it was made with (`mainstay backup keygen` made it)
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where `data` and `admin_socket` stand
    #[command(flatten)]
    pub paths: Paths,
}

/// Restores it into the folder that the settings name.
///
/// # Errors
/// What is in the way, with the file and what to do.
pub fn run(args: &RestoreArgs) -> anyhow::Result<()> {
    let settings = args.paths.load()?;
    let key = read_key(&args.key)?;
    let backup =
        if args.backup.join(manifest::FILE).exists() { args.backup.clone() } else { shelf::find(&args.backup, "")? };
    eprintln!("restoring {} into {}", backup.display(), settings.data.display());
    let order = restore::Order {
        backup: &backup,
        data: &settings.data,
        socket: &settings.admin_socket,
        key: &key,
        now_ms: clock::wall_ms(),
    };
    let mut told = 0;
    let restored = restore::restore(&order, &mut |done, total| {
        let tenth = done.saturating_mul(10) / total.max(1);
        if tenth != told {
            told = tenth;
            eprintln!("{}0 % of {} MiB", tenth, total >> 20);
        }
    })?;
    println!(
        "restored {} files of fleet {}, as they were at {}",
        restored.files.len(),
        crate::random::hex(&restored.fleet),
        crate::backup::name::of(restored.made_ms),
    );
    println!("start it with `systemctl start mainstay-collector`; agents send again what they still have.");
    println!(
        "Tokens and waiting orders are gone, and nobody may act on a lease for ten minutes. What else was done since the"
    );
    println!("backup is to be done again: hosts and operators that were revoked, hosts that were enrolled or deleted.");
    Ok(())
}

fn read_key(path: &Path) -> anyhow::Result<BackupKey> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = mainstay_proto::backup_key::read(&text).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
    Ok(BackupKey::new(key))
}
