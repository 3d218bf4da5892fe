//! When a campaign, or a wave of it, will have come to its end: an interval, and its tail by name.
//!
//! 1. The rest is played through many times with drawn times, and the interval is what all but a
//!    few of the plays lie in. A rate alone knows neither the tail nor how sure it is.
//! 2. A play draws the times from those that were seen, for each source times that source's own
//!    slowness, of which few observations say little: it is drawn too.
//! 3. Of a long line only the end is played; the sum of what goes before it is drawn as a whole,
//!    since it is near to normal. So the cost grows with the sources, not with the campaign.
//! 4. Of a database whose size says that it takes longer than all that was seen, the time is not drawn
//!    from those: it is what its size lets expect. Where in its line it stands is drawn.
//! 5. The campaign ends with its last source, and not before its own slots have done all the work.
//!    Which source that was in most plays is the tail.

use drover_schemas::v1;

/// How often the rest is played.
const PLAYS: usize = 200;
/// How many of a line are played one by one.
const PLAYED_MAX: u64 = 48;
/// How many of all lines together, where there are many: the campaign goes on beside its forecast.
const PLAYED_OF_ALL_MAX: u64 = 8_000;
/// The least variance between the logarithms of the sources' means: they are never quite alike.
const BETWEEN_MIN: f64 = 0.01;
/// By how much a drawn time lies beside the one that was seen, as a logarithm.
const BLUR: f64 = 0.25;
/// The share of plays in the interval, so that it holds the truth nine times of ten: the spread of
/// what has ended so far is less than that of what is to come, which the plays cannot know. Measured
/// on the model of the test.
const SHARE: f64 = 0.96;
/// How many hosts the tail names.
const TAIL_MAX: usize = 3;

/// One source's rest.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name.
    pub host: String,
    /// How many wait.
    pub waiting: u64,
    /// How many are in flight; not those of [`Line::large_in_flight`].
    pub in_flight: u64,
    /// Its slots; at least 1.
    pub slots: u32,
    /// How many were seen to end.
    pub ended: u64,
    /// For how long its slots were in use for those and for what `in_flight` counts, in milliseconds.
    /// The long ones are among the latter: what has ended alone would look too short.
    pub busy_ms: f64,
    /// Of those that wait, how long each takes that is larger than all that were seen, in
    /// milliseconds.
    pub large_ms: Vec<f64>,
    /// Those that are as large, and in flight.
    pub large_in_flight: Vec<Large>,
}

/// One in flight that is larger than all that were seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Large {
    /// How long it takes, in milliseconds.
    pub takes_ms: f64,
    /// For how long it has been in flight, in milliseconds.
    pub age_ms: f64,
}

/// What is left to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Rest {
    /// By source.
    pub lines: Vec<Line>,
    /// The campaign's slots; at least 1.
    pub slots: u32,
    /// Times from admission to switch that were seen, in milliseconds, each with its source's place
    /// among the lines.
    pub seen_ms: Vec<(usize, f64)>,
}

/// When it ends, in milliseconds from now.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Hardly sooner.
    pub low_ms: f64,
    /// As likely sooner as later.
    pub middle_ms: f64,
    /// Hardly later: nine times of ten it ends between the two.
    pub high_ms: f64,
    /// The sources that ended last, with the share of the plays in which each did.
    pub tail: Vec<(String, f64)>,
}

/// Numbers that look random: the same for the same seed.
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (one, two) = (self.uniform().max(1e-12), self.uniform());
        (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
    }

    fn of(&mut self, values: &[f64]) -> f64 {
        let at = (self.uniform() * values.len() as f64) as usize;
        values.get(at).copied().unwrap_or_default()
    }
}

/// What is left of a campaign, and of its next waves.
#[derive(Debug, Clone, PartialEq)]
pub struct Rests {
    /// All of it.
    pub whole: Rest,
    /// In their order, each with those before it.
    pub waves: Vec<(String, Rest)>,
}

/// When a campaign will have come to its end, and its next waves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Foreseen {
    /// All of it; none where nothing was seen.
    pub whole: Option<Forecast>,
    /// In their order.
    pub waves: Vec<(String, Forecast)>,
}

/// The forecasts of a campaign and of its next waves.
pub fn foresee(rests: &Rests, seed: u64) -> Foreseen {
    let wave = |(wave, rest): &(String, Rest)| Some((wave.clone(), forecast(rest, seed)?));
    Foreseen {
        whole: forecast(&rests.whole, seed),
        waves: rests.waves.iter().filter_map(wave).collect(),
    }
}

impl From<&Forecast> for v1::Forecast {
    fn from(forecast: &Forecast) -> Self {
        let tail =
            |(host, share): &(String, f64)| v1::ForecastTail { host: host.clone(), share: *share };
        Self {
            low_seconds: forecast.low_ms / 1e3,
            middle_seconds: forecast.middle_ms / 1e3,
            high_seconds: forecast.high_ms / 1e3,
            tail: forecast.tail.iter().map(tail).collect(),
        }
    }
}

/// What was seen, prepared for the plays.
struct Seen {
    /// Times against their source's own mean; 1 on average.
    shapes: Vec<f64>,
    longest: f64,
    variance: f64,
    /// Of the logarithms of the sources' means: the middle, and the variance.
    middle: f64,
    between: f64,
}

/// The forecast; none where nothing was seen. `seed` decides the draws.
pub fn forecast(rest: &Rest, seed: u64) -> Option<Forecast> {
    let seen = Seen::of(rest)?;
    let mut dice = Dice(seed);
    let mut ends = Vec::with_capacity(PLAYS);
    let mut last = vec![0_usize; rest.lines.len()];
    for _ in 0..PLAYS {
        let (end_ms, at) = play(rest, &seen, &mut dice);
        ends.push(end_ms);
        if let Some(count) = at.and_then(|at| last.get_mut(at)) {
            *count += 1;
        }
    }
    ends.sort_by(f64::total_cmp);
    let quantile = |share: f64| {
        let at = (share * (PLAYS - 1) as f64).round() as usize;
        ends.get(at).copied().unwrap_or_default()
    };
    let mut tail: Vec<(String, f64)> = last
        .iter()
        .zip(&rest.lines)
        .filter(|(count, _)| **count > 0)
        .map(|(count, line)| (line.host.clone(), *count as f64 / PLAYS as f64))
        .collect();
    tail.sort_by(|a, b| b.1.total_cmp(&a.1));
    tail.truncate(TAIL_MAX);
    Some(Forecast {
        low_ms: quantile((1.0 - SHARE) / 2.0),
        middle_ms: quantile(0.5),
        high_ms: quantile((1.0 + SHARE) / 2.0),
        tail,
    })
}

impl Line {
    /// The logarithm of its mean time, in milliseconds.
    fn mean_ln(&self) -> Option<f64> {
        (self.ended > 0).then(|| (self.busy_ms / self.ended as f64).max(1.0).ln())
    }
}

impl Seen {
    fn of(rest: &Rest) -> Option<Self> {
        let shape = |(n, ms): &(usize, f64)| Some(ms / rest.lines.get(*n)?.mean_ln()?.exp());
        let mut shapes: Vec<f64> = rest.seen_ms.iter().filter_map(shape).collect();
        let count = shapes.len() as f64;
        let mean = shapes.iter().sum::<f64>() / count;
        if shapes.is_empty() || mean <= 0.0 {
            return None;
        }
        shapes.iter_mut().for_each(|shape| *shape /= mean);
        let variance = shapes.iter().map(|shape| (shape - 1.0).powi(2)).sum::<f64>() / count;
        let means: Vec<(f64, f64)> = rest
            .lines
            .iter()
            .filter_map(|line| Some((line.mean_ln()?, line.ended as f64)))
            .collect();
        let lines = means.len().max(1) as f64;
        let middle = means.iter().map(|(mean, _)| mean).sum::<f64>() / lines;
        let apart = means.iter().map(|(mean, _)| (mean - middle).powi(2)).sum::<f64>() / lines;
        // Of what the means lie apart, a part is chance.
        let chance = means.iter().map(|(_, ended)| variance / ended).sum::<f64>() / lines;
        let longest = shapes.iter().copied().fold(0.0, f64::max);
        Some(Self { shapes, longest, variance, middle, between: (apart - chance).max(0.0) })
    }

    /// A time against its source's mean: one that was seen, or one near to it, since the longest of
    /// those to come is hardly among those that were.
    fn draw(&self, dice: &mut Dice) -> f64 {
        blurred(dice.of(&self.shapes), dice)
    }

    /// A source's mean time as it may be, in milliseconds.
    fn slowness(&self, line: &Line, dice: &mut Dice) -> f64 {
        let within = self.variance / line.ended.saturating_sub(1).max(1) as f64;
        let between = self.between.max(BETWEEN_MIN);
        let (middle, unsure) = match line.mean_ln() {
            Some(own) => {
                let weight = between / (between + within);
                (weight * own + (1.0 - weight) * self.middle, between * (1.0 - weight))
            }
            None => (self.middle, between),
        };
        (middle + unsure.sqrt() * dice.normal()).exp()
    }
}

/// A line in a play.
struct Played {
    /// Of all that it has to do, what is left.
    work: f64,
    slots: f64,
    /// By how much it ends later than if its work could be cut at will.
    ragged: f64,
}

/// Lines with as many slots each: they go on side by side, equally fast.
struct Abreast {
    slots: f64,
    /// Work and place of those that have not ended, the one with the most first.
    open: Vec<(f64, usize)>,
    /// What each of them has done so far.
    done: f64,
}

/// The end, and which line was the last.
fn play(rest: &Rest, seen: &Seen, dice: &mut Dice) -> (f64, Option<usize>) {
    let each_max = PLAYED_OF_ALL_MAX / rest.lines.len().max(1) as u64;
    let each_max = each_max.clamp(1, PLAYED_MAX);
    let lines = rest.lines.iter().map(|line| play_line(line, each_max, seen, dice));
    let lines: Vec<Played> = lines.collect();
    let mut groups = abreast(&lines);
    let (mut now, mut end, mut last) = (0.0_f64, 0.0_f64, None);
    loop {
        // The slots are shared out to those with fewest first.
        let mut left = f64::from(rest.slots.max(1));
        let mut count: usize = groups.iter().map(|group| group.open.len()).sum();
        let mut shares = Vec::with_capacity(groups.len());
        for group in &groups {
            let share = group.slots.min(left / count as f64);
            left -= share * group.open.len() as f64;
            count -= group.open.len();
            shares.push(share);
        }
        let soonest = groups.iter().zip(&shares).enumerate().filter_map(|(n, (group, share))| {
            let (work, line) = *group.open.last()?;
            Some((((work - group.done) / share).max(0.0), n, line))
        });
        let Some((step, n, line)) = soonest.min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
        now += step;
        for (group, share) in groups.iter_mut().zip(&shares) {
            group.done += step * share;
        }
        if let Some(group) = groups.get_mut(n) {
            group.open.pop();
        }
        let ends = now + lines.get(line).map_or(0.0, |line| line.ragged);
        if ends > end {
            (end, last) = (ends, Some(line));
        }
    }
    (end, last)
}

/// The lines that have something to do, by their slots, those with fewest first.
fn abreast(lines: &[Played]) -> Vec<Abreast> {
    let mut open: Vec<(f64, usize)> = lines.iter().map(|line| line.work).zip(0..).collect();
    open.retain(|(work, _)| *work > 0.0);
    let slots = |n: usize| lines.get(n).map_or(0.0, |line| line.slots);
    open.sort_by(|(one, a), (two, b)| slots(*a).total_cmp(&slots(*b)).then(two.total_cmp(one)));
    open.chunk_by(|(_, a), (_, b)| slots(*a) == slots(*b))
        .map(|group| {
            let slots = group.first().map_or(0.0, |(_, n)| slots(*n));
            Abreast { slots, open: group.to_vec(), done: 0.0 }
        })
        .collect()
}

/// What a line has to do, and how raggedly it ends; its last ones, at most `played_max`, are played.
fn play_line(line: &Line, played_max: u64, seen: &Seen, dice: &mut Dice) -> Played {
    let slowness = seen.slowness(line, dice);
    let alike = line.waiting.saturating_sub(line.large_ms.len() as u64);
    let played = alike.min(played_max);
    let before = alike - played;
    let mut large: Vec<(u64, f64)> = line
        .large_ms
        .iter()
        .map(|ms| ((dice.uniform() * alike as f64) as u64, blurred(*ms, dice)))
        .collect();
    large.sort_by_key(|(behind, _)| *behind);
    let mut large = large.into_iter().peekable();
    let mut slots = LineSlots { free: vec![0.0; line.slots.max(1) as usize] };
    for n in 0..line.in_flight {
        slots.add((n % u64::from(line.slots.max(1))) as usize, slowness * residual(seen, dice));
    }
    for large in &line.large_in_flight {
        slots.take(large.left_ms(dice));
    }
    while let Some((_, takes)) = large.next_if(|(behind, _)| *behind < before) {
        slots.take(takes);
    }
    let drawn = before as f64 + (before as f64 * seen.variance).sqrt() * dice.normal();
    slots.fill((slowness * drawn).max(0.0));
    for n in before..alike {
        while let Some((_, takes)) = large.next_if(|(behind, _)| *behind <= n) {
            slots.take(takes);
        }
        slots.take(slowness * seen.draw(dice));
    }
    large.for_each(|(_, takes)| slots.take(takes));
    slots.played()
}

/// A time as it may be, where this one is expected.
fn blurred(ms: f64, dice: &mut Dice) -> f64 {
    ms * (BLUR * dice.normal()).exp()
}

impl Large {
    /// What is left of it, in milliseconds. One that has taken longer than it should goes on for a while.
    fn left_ms(&self, dice: &mut Dice) -> f64 {
        let left_ms = blurred(self.takes_ms, dice) - self.age_ms;
        if left_ms > 0.0 { left_ms } else { self.age_ms * BLUR * dice.normal().abs() }
    }
}

/// Until when each of a line's slots is in use.
struct LineSlots {
    free: Vec<f64>,
}

impl LineSlots {
    fn add(&mut self, slot: usize, takes: f64) {
        if let Some(free) = self.free.get_mut(slot) {
            *free += takes;
        }
    }

    /// One takes the slot that is free first.
    fn take(&mut self, takes: f64) {
        if let Some(first) = self.free.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *first += takes;
        }
    }

    /// Many short ones, whose sum this is, each take the slot that is free first.
    fn fill(&mut self, sum: f64) {
        self.free.sort_by(f64::total_cmp);
        // The level to which the lowest slots come.
        let (mut level, mut below) = (0.0, sum);
        for (n, free) in self.free.iter().enumerate() {
            if n > 0 && *free >= level {
                break;
            }
            below += free;
            level = below / (n + 1) as f64;
        }
        self.free.iter_mut().for_each(|free| *free = free.max(level));
    }

    fn played(&self) -> Played {
        let (work, slots) = (self.free.iter().sum::<f64>(), self.free.len() as f64);
        let ends = self.free.iter().copied().fold(0.0, f64::max);
        Played { work, slots, ragged: (ends - work / slots).max(0.0) }
    }
}

/// What is left of one that is found in flight: the long ones are found more often.
fn residual(seen: &Seen, dice: &mut Dice) -> f64 {
    for _ in 0..16 {
        let one = dice.of(&seen.shapes);
        if dice.uniform() * seen.longest <= one {
            return one * dice.uniform();
        }
    }
    dice.uniform()
}
