//! `device serve`: the board at work.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::Config;
use crate::page::STATEMENT;
use crate::serve::{Service, Stop};
use crate::spool::{Recovery, SpoolError};

/// How often the parts are looked at, and the watchdog is fed.
const LOOK: Duration = Duration::from_secs(1);

/// Receive scans over DICOM and from folders, judge them, show, signal and forward the results.
///
/// Runs until SIGTERM or SIGINT. Decision support that flags and explains. Not a diagnosis.
#[derive(Args)]
pub struct ServeArgs {
    /// The configuration; `device config` shows a documented one
    #[arg(long, value_name = "FILE", default_value = "/etc/spinesight/device.toml")]
    config: PathBuf,
}

/// Runs `device serve`.
///
/// # Errors
/// When the configuration has mistakes, a part cannot start, or the spool's database turns out to
/// be damaged: the next start rebuilds it.
pub fn run(args: ServeArgs) -> anyhow::Result<()> {
    let (config, digest) = Config::load(&args.config)?;
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot listen to signals")?;
    let service = Service::start(&config, &digest)?;
    report(&service);
    let stop = service.stop();
    let on_signal = stop.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            on_signal.set();
        }
    })?;
    notify(&[NotifyState::Ready]);
    watch(&service, &stop);
    notify(&[NotifyState::Stopping]);
    service.join();
    anyhow::ensure!(!stop.has_failed(), SpoolError::Damaged);
    Ok(())
}

/// Feeds the watchdog as long as every part moves, until the service is told to stop.
fn watch(service: &Service, stop: &Stop) {
    let period = sd_notify::watchdog_enabled().map(|limit| limit / 3);
    let mut fed = Instant::now();
    while !stop.sleep(LOOK) {
        if service.stuck().is_empty() && period.is_some_and(|period| fed.elapsed() >= period) {
            notify(&[NotifyState::Watchdog]);
            fed = Instant::now();
        }
    }
}

/// Without systemd there is nobody to notify.
fn notify(state: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}

fn report(service: &Service) {
    println!("receiving DICOM at {}", service.receiving_at);
    println!("page at {}", service.page_url);
    let Recovery { swept, adopted, lost, set_back, unreadable, .. } = &service.recovery;
    if service.recovery.damaged_database.is_some() {
        println!(
            "the spool's database was damaged: kept aside and rebuilt from the scans' folders"
        );
    }
    let found = [
        (*swept, "unfinished files removed"),
        (adopted.len(), "scans taken up again"),
        (set_back.len(), "scans set back to be judged or reported again"),
        (lost.len(), "scans whose files are gone"),
        (unreadable.len(), "folders set aside because they cannot be understood"),
    ];
    for (count, what) in found.into_iter().filter(|(count, _)| *count > 0) {
        println!("{count} {what}");
    }
    println!("{STATEMENT}");
}
