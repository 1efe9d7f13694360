//! May it be done: a request against root's file, without looking at the host.
//!
//! In: the peer, the verb and [`Settings`]. Out: nothing, or the [`Refusal`] that names what root's file allows. Pure, and
//! asked before anything is journalled or touched. Checks that need the host (who owns a folder, whose file is open)
//! follow where the work is done.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_core::config::show_duration;
use mainstay_core::plan::{AgedFiles, DiskReclaim, ReclaimPlace, Undo};
use mainstay_core::subject::UnitName;
use mainstay_core::verb::{Refusal, RefusalReason, Verb};

use crate::protect::protecting_pattern;
use crate::settings::{ReclaimRoot, Settings};
use mainstay_core::policy::Glob;

/// Most places in one plan.
pub const PLACES_MAX: usize = 16;

/// Most globs in one selection.
pub const GLOBS_MAX: usize = 64;

/// Longest name that a policy may give to a selection or a probe, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Who asks, by the socket's peer credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The agent's user.
    Agent,
    /// Root: a person at the host's own command line.
    Root,
}

/// Whether this peer may ask for this verb. A person undoes, asks and purges; acting is the agent's.
///
/// # Errors
/// [`RefusalReason::PeerNotAllowed`].
pub fn check_peer(peer: Peer, verb: &Verb) -> Result<(), Refusal> {
    let may = match peer {
        Peer::Agent => true,
        Peer::Root => !matches!(verb, Verb::DiskReclaim(_)) && verb.unit().is_none(),
    };
    if may {
        return Ok(());
    }
    refuse(
        RefusalReason::PeerNotAllowed,
        format!("{} is carried out for the agent only; root has systemctl", verb.name()),
    )
}

/// Whether root's file allows the verb.
///
/// # Errors
/// Why not, naming what is allowed.
pub fn check(settings: &Settings, verb: &Verb) -> Result<(), Refusal> {
    match verb {
        Verb::UnitStart { unit, .. }
        | Verb::UnitRestart { unit, .. }
        | Verb::UnitStop { unit }
        | Verb::UnitReload { unit }
        // What may not be restarted is not looked at either.
        | Verb::Scene { unit } => check_unit(settings, unit),
        Verb::DiskReclaim(reclaim) => check_reclaim(settings, reclaim),
        Verb::ProbeCommand { name } => check_name("probe", name),
        Verb::Undo { .. }
        | Verb::PurgeExpired
        | Verb::Status { .. }
        | Verb::Ping
        | Verb::Processes => Ok(()),
    }
}

/// Whether a unit may be touched. Asked again for every other name of the same unit.
///
/// # Errors
/// [`RefusalReason::Protected`] or [`RefusalReason::NotAllowed`].
pub fn check_unit(settings: &Settings, unit: &UnitName) -> Result<(), Refusal> {
    check_protected(settings, unit.as_str())?;
    if settings.units_allow.iter().any(|glob| glob.matches(unit.as_str().as_bytes())) {
        return Ok(());
    }
    refuse(
        RefusalReason::NotAllowed,
        format!("{unit} is not among the units that actuator.toml allows ({})", shown(&settings.units_allow)),
    )
}

/// Whether a name is on the protected list.
///
/// # Errors
/// [`RefusalReason::Protected`].
pub fn check_protected(settings: &Settings, unit: &str) -> Result<(), Refusal> {
    match protecting_pattern(unit, &settings.units_protect) {
        Some(pattern) => refuse(RefusalReason::Protected, format!("{unit} is protected (by `{pattern}`)")),
        None => Ok(()),
    }
}

fn check_reclaim(settings: &Settings, reclaim: &DiskReclaim) -> Result<(), Refusal> {
    if clean_components(&reclaim.mount.0).is_none() {
        return refuse(RefusalReason::BadRequest, format!("{} is not a clean absolute path", reclaim.mount));
    }
    if !(0.0..1.0).contains(&reclaim.until_used_ratio) {
        return refuse(
            RefusalReason::BadRequest,
            format!("target {} is not from 0 to under 1", reclaim.until_used_ratio),
        );
    }
    if reclaim.from.is_empty() {
        return refuse(RefusalReason::EmptySelector, "the plan names no place");
    }
    if reclaim.from.len() > PLACES_MAX {
        return refuse(
            RefusalReason::BadRequest,
            format!("too many places (got {}, at most {PLACES_MAX})", reclaim.from.len()),
        );
    }
    check_undo(settings, reclaim.undo)?;
    reclaim.from.iter().try_for_each(|place| check_place(settings, place))
}

fn check_undo(settings: &Settings, undo: Undo) -> Result<(), Refusal> {
    match undo {
        Undo::For(time) if time.is_zero() => {
            refuse(RefusalReason::BadRequest, "an undo time of 0 keeps nothing; say `none`")
        }
        Undo::For(time) if time > settings.undo_for_max => {
            let (asked, most) = (show_duration(time), show_duration(settings.undo_for_max));
            refuse(RefusalReason::NotAllowed, format!("undo for {asked} is longer than actuator.toml allows ({most})"))
        }
        Undo::For(_) | Undo::None => Ok(()),
    }
}

fn check_place(settings: &Settings, place: &ReclaimPlace) -> Result<(), Refusal> {
    let reclaim = &settings.reclaim;
    let (key, allowed) = match place {
        ReclaimPlace::AptCache => ("apt_cache", reclaim.apt_cache),
        ReclaimPlace::CoreDumps => ("core_dumps", reclaim.core_dumps),
        ReclaimPlace::Journal => ("journal", reclaim.journal),
        ReclaimPlace::Aged(aged) => return allowed_root(settings, aged).map(|_| ()),
    };
    match allowed {
        Some(_) => Ok(()),
        None => refuse(RefusalReason::NotAllowed, format!("actuator.toml has no `reclaim.{key}`")),
    }
}

/// The root of root's file that a selection lies in: the nearest one above it.
///
/// # Errors
/// Why there is none, or why the selection is wider than it allows.
pub fn allowed_root<'s>(settings: &'s Settings, aged: &AgedFiles) -> Result<&'s ReclaimRoot, Refusal> {
    check_name("selection", &aged.name)?;
    if aged.files.is_empty() || aged.files.iter().any(String::is_empty) || aged.under.0.is_empty() {
        return refuse(RefusalReason::EmptySelector, format!("selection `{}` names no folder or no files", aged.name));
    }
    if aged.files.len() > GLOBS_MAX {
        return refuse(
            RefusalReason::BadRequest,
            format!("too many globs (got {}, at most {GLOBS_MAX})", aged.files.len()),
        );
    }
    let Some(under) = clean_components(&aged.under.0) else {
        return refuse(RefusalReason::BadRequest, format!("{} is not a clean absolute path", aged.under));
    };
    let roots = settings.reclaim.roots.iter().filter(|root| under.starts_with(&root.path));
    let Some(root) = roots.max_by_key(|root| root.path.components().count()) else {
        let allowed: Vec<String> = settings.reclaim.roots.iter().map(|root| root.path.display().to_string()).collect();
        let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
        return refuse(
            RefusalReason::NotAllowed,
            format!("{} lies in no reclaim root of actuator.toml ({allowed})", aged.under),
        );
    };
    if aged.older_than < root.older_than {
        return refuse(RefusalReason::TooYoung, too_young(&root.path, aged.older_than, root.older_than));
    }
    Ok(root)
}

fn too_young(root: &Path, asked: Duration, least: Duration) -> String {
    let (asked, least) = (show_duration(asked), show_duration(least));
    format!("files of {asked} are younger than actuator.toml allows under {} ({least})", root.display())
}

/// A name as policies give it: it stands in logs and in file names of root's.
fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain) {
        return Ok(());
    }
    refuse(
        RefusalReason::BadRequest,
        format!("{what} name {name:?} must be 1 to {NAME_BYTES_MAX} of letters, digits, - and _"),
    )
}

/// An absolute path without `.`, `..`, empty parts or NUL; `None` otherwise. One slash at the end is left out.
#[must_use]
pub fn clean_components(path: &[u8]) -> Option<PathBuf> {
    let rest = path.strip_prefix(b"/")?;
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    let is_clean = |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
    if !rest.is_empty() && !rest.split(|byte| *byte == b'/').all(is_clean) {
        return None;
    }
    Some(Path::new("/").join(OsStr::from_bytes(rest)))
}

fn shown(globs: &[Glob]) -> String {
    if globs.is_empty() {
        return "none".to_owned();
    }
    globs.iter().map(Glob::as_str).collect::<Vec<_>>().join(", ")
}

fn refuse<T>(reason: RefusalReason, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { reason, text: text.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::config::Document;
    use mainstay_core::plan::ResetFailed;
    use proptest::prelude::*;

    fn settings() -> Settings {
        let text = r#"
            [units]
            allow = ["nginx.service", "app@*.service", "ssh.service"]
            [reclaim]
            journal = { older_than = "0s" }
            [[reclaim.root]]
            path = "/var/log"
            files = ["*.gz"]
            older_than = "1d"
            [[reclaim.root]]
            path = "/var/log/app"
            files = ["*.gz"]
            older_than = "3d"
        "#;
        Settings::read(&Document::parse("a.toml", text).unwrap()).unwrap()
    }

    fn restart(unit: &str) -> Verb {
        Verb::UnitRestart { unit: unit.parse().unwrap(), reset_failed: ResetFailed::Keep }
    }

    fn aged(under: &str, files: &[&str], hours: u64) -> ReclaimPlace {
        ReclaimPlace::Aged(AgedFiles {
            name: "logs".into(),
            under: under.into(),
            files: files.iter().map(ToString::to_string).collect(),
            older_than: Duration::from_secs(hours * 3600),
        })
    }

    fn reclaim(from: Vec<ReclaimPlace>) -> Verb {
        Verb::DiskReclaim(DiskReclaim { mount: "/var".into(), from, until_used_ratio: 0.8, undo: Undo::None })
    }

    fn reason(verb: &Verb) -> Option<RefusalReason> {
        check(&settings(), verb).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn units_pass_only_when_allowed_and_not_protected() {
        assert_eq!(reason(&restart("nginx.service")), None);
        assert_eq!(reason(&restart("app@7.service")), None);
        assert_eq!(reason(&restart("cron.service")), Some(RefusalReason::NotAllowed));
        assert_eq!(reason(&restart("ssh.service")), Some(RefusalReason::Protected));
        let refusal = check(&settings(), &restart("cron.service")).unwrap_err();
        assert!(refusal.text.contains("nginx.service, app@*.service"), "{}", refusal.text);
    }

    #[test]
    fn an_empty_selector_is_refused_and_never_everything() {
        assert_eq!(reason(&reclaim(vec![])), Some(RefusalReason::EmptySelector));
        assert_eq!(reason(&reclaim(vec![aged("/var/log", &[], 48)])), Some(RefusalReason::EmptySelector));
        assert_eq!(reason(&reclaim(vec![aged("/var/log", &[""], 48)])), Some(RefusalReason::EmptySelector));
        assert_eq!(reason(&reclaim(vec![aged("", &["*"], 48)])), Some(RefusalReason::EmptySelector));
    }

    #[test]
    fn a_selection_must_lie_in_a_root_and_be_old_enough_for_the_nearest() {
        assert_eq!(reason(&reclaim(vec![aged("/var/log", &["*.gz"], 24)])), None);
        assert_eq!(reason(&reclaim(vec![aged("/var/log/nginx/", &["*.gz"], 24)])), None);
        assert_eq!(reason(&reclaim(vec![aged("/var/log", &["*.gz"], 23)])), Some(RefusalReason::TooYoung));
        assert_eq!(reason(&reclaim(vec![aged("/var/log/app/x", &["*.gz"], 48)])), Some(RefusalReason::TooYoung));
        assert_eq!(reason(&reclaim(vec![aged("/var/logs", &["*.gz"], 48)])), Some(RefusalReason::NotAllowed));
        assert_eq!(reason(&reclaim(vec![aged("/var/log/../lib", &["*.gz"], 48)])), Some(RefusalReason::BadRequest));
        assert_eq!(reason(&reclaim(vec![ReclaimPlace::Journal])), None);
        assert_eq!(reason(&reclaim(vec![ReclaimPlace::AptCache])), Some(RefusalReason::NotAllowed));
    }

    #[test]
    fn one_place_that_is_not_allowed_refuses_the_whole_plan() {
        let verb = reclaim(vec![ReclaimPlace::Journal, aged("/home", &["*"], 48)]);
        assert_eq!(reason(&verb), Some(RefusalReason::NotAllowed));
    }

    #[test]
    fn root_may_undo_and_ask_but_not_act_through_the_socket() {
        assert!(check_peer(Peer::Root, &restart("nginx.service")).is_err());
        assert!(check_peer(Peer::Root, &reclaim(vec![])).is_err());
        let undo = Verb::Undo { action: mainstay_core::id::ActionId(1) };
        for verb in [Verb::PurgeExpired, Verb::Ping, Verb::Processes, undo] {
            assert!(check_peer(Peer::Root, &verb).is_ok());
        }
        assert!(check_peer(Peer::Agent, &restart("nginx.service")).is_ok());
    }

    #[test]
    fn only_what_may_be_restarted_is_looked_at() {
        let scene = |unit: &str| Verb::Scene { unit: unit.parse().unwrap() };
        assert_eq!(reason(&scene("nginx.service")), None);
        assert_eq!(reason(&scene("cron.service")), Some(RefusalReason::NotAllowed));
        assert_eq!(reason(&scene("ssh.service")), Some(RefusalReason::Protected));
        assert!(check_peer(Peer::Root, &scene("nginx.service")).is_err());
    }

    proptest! {
        #[test]
        fn no_path_leaves_its_root(parts in proptest::collection::vec("[a-z.]{0,3}", 0..6)) {
            let under = format!("/var/log/{}", parts.join("/"));
            if let Ok(root) = allowed_root(&settings(), &match aged(&under, &["*"], 1000) { ReclaimPlace::Aged(a) => a, _ => unreachable!() }) {
                prop_assert!(Path::new(&under).starts_with(&root.path));
                prop_assert!(!under.split('/').any(|part| part == ".." || part == "."));
            }
        }
    }
}
