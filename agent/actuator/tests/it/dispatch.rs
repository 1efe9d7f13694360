//! Requests against journal, hold file, limits and root's file.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixListener;

use mainstay_actuator::dispatch::Actuator;
use mainstay_actuator::gate::Peer;
use mainstay_actuator::load::Ownership;
use mainstay_core::id::{ActionId, DecisionId};
use mainstay_core::plan::ResetFailed;
use mainstay_core::verb::{ActionStatus, Detail, RefusalReason, Reply, Request, Verb};

use super::world::{World, refused};

fn restart(unit: &str) -> Verb {
    Verb::UnitRestart { unit: unit.parse().unwrap(), reset_failed: ResetFailed::Keep }
}

#[test]
fn an_id_acts_once_however_often_it_is_asked() {
    let world = World::new();
    let first = world.ask_as(ActionId(1), restart("nginx.service"));
    let request = Request { decision: Some(DecisionId(9)), ..Request::new(ActionId(1), restart("nginx.service")) };
    // Again, for another decision, while held, after a restart, and after root's file has changed: the same answer.
    fs::write(&world.paths.hold, "").unwrap();
    fs::write(&world.paths.config, "").unwrap();
    assert_eq!(world.actuator.handle(Peer::Agent, &request), first);
    let World { actuator, paths, units, .. } = &world;
    assert_eq!(actuator.handle(Peer::Agent, &request), first);
    assert_eq!(units.count(), 1);
    let Reply::Status(ActionStatus::Finished(told)) = world.ask(Verb::Status { action: ActionId(1) }) else { panic!() };
    assert_eq!(*told, first);
    // Another actuator cannot have the journal while this one has it.
    let second = Actuator::new(paths.clone(), Ownership::AnyOwner, Box::new(*units));
    assert_eq!(refused(second.handle(Peer::Agent, &request)), RefusalReason::JournalUnavailable);
}

#[test]
fn an_id_stands_for_one_request_only() {
    let world = World::new();
    world.ask_as(ActionId(1), restart("nginx.service"));
    assert_eq!(refused(world.ask_as(ActionId(1), restart("cron.service"))), RefusalReason::IdReused);
    assert_eq!(world.units.count(), 1);
}

#[test]
fn what_was_refused_may_be_asked_again_under_its_id() {
    let world = World::new();
    fs::write(&world.paths.hold, "").unwrap();
    assert_eq!(refused(world.ask_as(ActionId(1), restart("nginx.service"))), RefusalReason::Held);
    assert_eq!(world.ask(Verb::Status { action: ActionId(1) }), Reply::Status(ActionStatus::NotSeen));
    fs::remove_file(&world.paths.hold).unwrap();
    assert!(matches!(world.ask_as(ActionId(1), restart("nginx.service")), Reply::Done(_)));
}

#[test]
fn the_hold_file_stops_acting_and_nothing_else() {
    let world = World::new();
    fs::write(&world.paths.hold, "").unwrap();
    assert_eq!(refused(world.ask(restart("nginx.service"))), RefusalReason::Held);
    assert_eq!(refused(world.ask(Verb::Undo { action: ActionId(5) })), RefusalReason::Held);
    let Reply::Done(Detail::Pong(pong)) = world.ask(Verb::Ping) else { panic!() };
    assert!(pong.is_held);
    assert!(matches!(world.ask(Verb::PurgeExpired), Reply::Done(Detail::Purge(_))));
    assert!(matches!(world.ask(Verb::Processes), Reply::Done(Detail::Processes(_))));
    assert_eq!(world.units.count(), 0);
}

#[test]
fn the_limit_of_an_hour_survives_a_restart_and_is_counted_by_verb() {
    let mut world = World::new();
    let config = fs::read_to_string(&world.paths.config).unwrap();
    fs::write(&world.paths.config, format!("{config}\n[per_hour]\n\"unit.restart\" = 2\n")).unwrap();
    for _ in 0..2 {
        assert!(matches!(world.ask(restart("nginx.service")), Reply::Done(_)));
    }
    assert_eq!(refused(world.ask(restart("nginx.service"))), RefusalReason::RateLimited);
    let (paths, units) = (world.paths.clone(), world.units);
    // The journal is one process's at a time.
    world.actuator =
        Actuator::new(world.data.parent().map(|_| paths.clone()).unwrap(), Ownership::AnyOwner, Box::new(units));
    assert_eq!(refused(world.ask(restart("cron.service"))), RefusalReason::RateLimited);
    assert!(matches!(world.ask(Verb::UnitReload { unit: "nginx.service".parse().unwrap() }), Reply::Done(_)));
    assert_eq!(units.count(), 3);
}

#[test]
fn a_broken_file_of_roots_refuses_acting_and_names_the_place() {
    let world = World::new();
    fs::write(&world.paths.config, "[units]\nalow = [\"*\"]\n").unwrap();
    let Reply::Refused(refusal) = world.ask(restart("nginx.service")) else { panic!() };
    assert_eq!(refusal.reason, RefusalReason::BadConfig);
    assert!(refusal.text.contains(":2:1: unknown key `alow`; did you mean `allow`?"), "{}", refusal.text);
    assert_eq!(world.units.count(), 0);
}

#[test]
fn nothing_begins_that_cannot_be_journalled() {
    let world = World::new();
    fs::remove_dir(&world.paths.state).unwrap();
    assert_eq!(refused(world.ask(restart("nginx.service"))), RefusalReason::JournalUnavailable);
    assert_eq!(world.units.count(), 0);
    // Nor is it said that an action was not seen when nobody can know.
    let status = world.ask(Verb::Status { action: ActionId(1) });
    assert_eq!(refused(status), RefusalReason::JournalUnavailable);
    // And once it can be, it goes on.
    fs::create_dir(&world.paths.state).unwrap();
    assert!(matches!(world.ask(restart("nginx.service")), Reply::Done(_)));
}

#[test]
fn check_config_names_every_mistake_of_every_file() {
    let world = World::new();
    fs::create_dir(world.paths.config.with_extension("d")).unwrap();
    fs::write(world.paths.config.with_extension("d").join("10.toml"), "[undo]\nfor_mx = \"1d\"\n").unwrap();
    fs::write(world.paths.probes.join("pg.toml"), "command = [\"pg_isready\"]\n").unwrap();
    let problems = mainstay_actuator::check::problems(&world.paths, Ownership::AnyOwner);
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown[0].ends_with("10.toml:2:1: unknown key `for_mx`; did you mean `for_max`?"), "{shown:?}");
    assert!(shown[1].contains("pg.toml:1:11: `command` must begin with the absolute path"), "{shown:?}");
}

#[test]
fn protected_units_and_unknown_probes_are_refused() {
    let world = World::new();
    assert_eq!(refused(world.ask(restart("ssh.service"))), RefusalReason::Protected);
    assert_eq!(refused(world.ask(restart("mainstay-agent.service"))), RefusalReason::Protected);
    assert_eq!(refused(world.ask(Verb::ProbeCommand { name: "none".into() })), RefusalReason::NotAllowed);
    assert_eq!(refused(world.ask(Verb::ProbeCommand { name: "../x".into() })), RefusalReason::BadRequest);
}

#[test]
fn a_scene_is_of_an_allowed_unit_in_the_run_that_is_meant_and_acts_on_nothing() {
    let world = World::new();
    let group = world.paths.cgroup.join("system.slice/nginx.service");
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
    let scene = |unit: &str| Verb::Scene { unit: unit.parse().unwrap() };
    // Held or not: looking changes nothing.
    fs::write(&world.paths.hold, "").unwrap();
    let stacks = UnixListener::bind(&world.paths.stacks).unwrap();
    let reader = std::thread::spawn(move || {
        let (asked, _) = stacks.accept().unwrap();
        let mut question = String::new();
        BufReader::new(&asked).read_line(&mut question).unwrap();
        writeln!(&asked, "= {}[<0>] do_select+0x63a/0x930", question.replace(' ', "\n= ")).unwrap();
        stacks
    });
    let of_run = |run: u8| Request { invocation: Some([run; 16]), ..Request::new(ActionId(3), scene("nginx.service")) };
    let Reply::Done(Detail::Scene(seen)) = world.actuator.handle(Peer::Agent, &of_run(1)) else { panic!() };
    let process = &seen.processes[0];
    assert_eq!((process.pid, seen.processes.len()), (std::process::id(), 1));
    assert_eq!(process.stack, ["do_select+0x63a/0x930"]);
    let stacks = reader.join().unwrap();
    assert!(process.state.starts_with(['R', 'S', 'D']) && process.fds > 0 && process.threads > 0, "{process:?}");
    assert!(seen.limits.iter().any(|limit| limit.starts_with("Max open files ")), "{:?}", seen.limits);
    assert_eq!(refused(world.actuator.handle(Peer::Agent, &of_run(2))), RefusalReason::StartedAnew);
    assert_eq!(refused(world.ask(scene("sshd.service"))), RefusalReason::Protected);
    assert_eq!(refused(world.actuator.handle(Peer::Root, &of_run(1))), RefusalReason::PeerNotAllowed);
    let Reply::Done(Detail::Scene(none)) = world.ask(scene("gone.service")) else { panic!() };
    assert!(none.processes.is_empty());
    stacks.set_nonblocking(true).unwrap();
    assert_eq!(stacks.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "of nobody nothing is asked");
    assert_eq!(world.units.count(), 0);
    assert_eq!(world.ask(Verb::Status { action: ActionId(3) }), Reply::Status(ActionStatus::NotSeen));
}
