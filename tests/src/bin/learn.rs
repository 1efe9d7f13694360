//! `learn DAYS SECONDS SEED OUT [POLICY]`, on a host: reads it for so many seconds, makes so many days of that, and writes what
//! its agent would have learned of them to OUT. POLICY names the probes.
//!
//! The test harness copies it into a host and runs it there; see `site::learning`.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use mainstay_agent::run::Paths;
use mainstay_core::policy::Policy;
use mainstay_tests::learning::{History, record, teach};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [days, seconds, seed, out, policy @ ..] = args.as_slice() else {
        bail!("usage: learn DAYS SECONDS SEED OUT [POLICY]");
    };
    let probes = match policy {
        [] => Vec::new(),
        [path] => probes(Path::new(path))?,
        _ => bail!("one policy is taken, not {}", policy.len()),
    };
    let days = days.parse().with_context(|| format!("`{days}` is no number of days"))?;
    let seconds = seconds.parse().with_context(|| format!("`{seconds}` is no number of seconds"))?;
    let seed = seed.parse().with_context(|| format!("`{seed}` is no seed"))?;
    let settings = mainstay_agent::config::load(&Paths::default().settings())
        .map_err(|problems| anyhow!("the agent's settings: {problems:?}"))?;
    let samples = record::record(seconds, probes, settings.filesystems).await?;
    let began = Instant::now();
    let lesson = teach(History::new(&samples, days, seed)?, seed)?;
    std::fs::write(out, &lesson.state).with_context(|| format!("cannot write {out}"))?;
    println!(
        "learned {} samples of {days} days in {:.1} s: {} subjects, {} bytes, opened {:?}",
        lesson.samples,
        began.elapsed().as_secs_f64(),
        lesson.subjects,
        lesson.state.len(),
        lesson.opened,
    );
    Ok(())
}

fn probes(path: &Path) -> Result<Vec<mainstay_core::policy::ProbeSpec>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let policy = Policy::parse(&[("policy.toml", text.as_str())]).map_err(|problems| anyhow!("{problems:?}"))?;
    Ok(policy.probes().cloned().collect())
}
