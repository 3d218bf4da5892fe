//! `drover status`: where the campaign stands, once or watched.

use std::{path::Path, time::Duration};

use chrono::Utc;
use drover_projector::{
    render,
    view::{Foreseen, Frozen, Status},
};
use drover_schemas::{
    CampaignName, Failure,
    v1::{CampaignStatus, Forecast, WaveForecast},
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

use super::{pause::answering, print, print_json};
use crate::{context::Context, report::Trouble};

/// How often a watched campaign is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The bars' steps, in the order of a migration's life.
const STEPS: [&str; 10] = [
    "freeze", "dump", "import", "verify", "disarm", "open", "switch", "retire", "publish",
    "announce",
];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The campaign's name.
    campaign: CampaignName,
    /// Draws progress bars until all migrations have come to rest, or until interrupted.
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// One JSON document.
    #[arg(long)]
    json: bool,
}

pub async fn run(config: &Path, args: Args) -> Result<(), Trouble> {
    let context = Context::read(config, "status", &args.campaign).await?;
    if args.watch {
        return watch(&context, &args.campaign).await;
    }
    let status = look(&context, &args.campaign).await?;
    if args.json {
        return print_json(&status);
    }
    print(&render::status(&status));
    Ok(())
}

/// What the projector knows, with what the active orchestrator foresees; without, where none answers.
async fn look(context: &Context, campaign: &CampaignName) -> Result<Status, Failure> {
    let projector = drover_projector::status(&context.bus, campaign);
    let (status, orchestrator) = tokio::join!(projector, answering(&context.bus));
    let mut status = status?;
    let known = orchestrator.ok().flatten().into_iter().flat_map(|status| status.campaigns);
    let mut known = known.filter(|known| known.campaign == campaign.as_str());
    status.foreseen = known.next().and_then(foreseen);
    Ok(status)
}

fn foreseen(known: CampaignStatus) -> Option<Foreseen> {
    let CampaignStatus { admitting, forecast, waves, window_ends_at_unix_ms, .. } = known;
    let Forecast { low_seconds, high_seconds, tail, .. } = forecast.filter(|_| admitting)?;
    let left_ms = window_ends_at_unix_ms.saturating_sub(Utc::now().timestamp_millis());
    let window_left_seconds = (window_ends_at_unix_ms > 0).then_some(left_ms.max(0) as f64 / 1e3);
    let wave = |wave: WaveForecast| {
        let Forecast { low_seconds, high_seconds, .. } = wave.forecast?;
        Some((wave.wave, low_seconds, high_seconds))
    };
    let tail = tail.into_iter().map(|tail| (tail.host, tail.share)).collect();
    let waves = waves.into_iter().filter_map(wave).collect();
    Some(Foreseen { low_seconds, high_seconds, tail, waves, window_left_seconds })
}

async fn watch(context: &Context, campaign: &CampaignName) -> Result<(), Trouble> {
    let bars = Bars::new();
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let status = look(context, campaign).await?;
        bars.draw(&status);
        let counts = &status.counts;
        if counts.total > 0 && counts.remaining() == 0 {
            bars.end();
            print(&render::status(&status));
            return Ok(());
        }
    }
}

/// The progress of a campaign as bars: one of the whole, one for each step that has work.
pub struct Bars {
    all: MultiProgress,
    whole: ProgressBar,
    steps: Vec<ProgressBar>,
    text: ProgressBar,
}

impl Bars {
    /// Nothing drawn yet. On anything but a terminal nothing ever is.
    pub fn new() -> Self {
        let all = MultiProgress::new();
        let bar = |template: &str| {
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            all.add(ProgressBar::new(0).with_style(style.progress_chars("█▉▊▋▌▍▎▏ ")))
        };
        let whole = bar("{prefix:>10} {wide_bar} {pos:>7} of {len}");
        whole.set_prefix("completed");
        let steps = STEPS
            .map(|step| {
                let line = bar("{prefix:>10} {bar:40} {pos:>7}");
                line.set_prefix(step);
                line
            })
            .to_vec();
        let text = bar("{msg}");
        Self { all, whole, steps, text }
    }

    /// Draws a status.
    pub fn draw(&self, status: &Status) {
        let counts = &status.counts;
        self.whole.set_length(counts.total);
        self.whole.set_position(counts.completed);
        for (bar, step) in self.steps.iter().zip(STEPS) {
            bar.set_length(u64::from(status.in_flight_max).min(counts.total).max(1));
            bar.set_position(status.phases.get(step).copied().unwrap_or(0));
        }
        self.text.set_message(line(status));
    }

    /// Takes the bars away.
    pub fn end(&self) {
        // Nothing depends on the terminal taking it.
        let _ = self.all.clear();
    }
}

/// How long it may take: an interval, where it is foreseen.
fn left(status: &Status) -> Option<String> {
    let text = |seconds: f64| render::duration(seconds.ceil() as u64);
    let foreseen = status.foreseen.as_ref();
    let interval =
        foreseen.map(|it| format!("{} to {}", text(it.low_seconds), text(it.high_seconds)));
    interval.or_else(|| status.time_left_seconds.map(render::duration))
}

/// What the bars do not show, in a line.
fn line(status: &Status) -> String {
    let dash = || "–".to_owned();
    let seconds = |value: Option<f64>| value.map_or_else(dash, render::seconds);
    let Frozen { median_seconds, p99_seconds, .. } = &status.frozen;
    format!(
        "{} · {}/h · left {} · frozen median {} p99 {} · failures {} · parked {}",
        status.phase,
        status.rate_per_hour.map_or_else(dash, |rate| format!("{rate:.0}")),
        left(status).unwrap_or_else(dash),
        seconds(*median_seconds),
        seconds(*p99_seconds),
        status.failures,
        status.counts.parked,
    )
}
