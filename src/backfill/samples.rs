//! The samples of a moment, as lines of OpenMetrics text.
//!
//! A series gets its first sample at 0 one step before it counts anything, because Prometheus takes the first sample for
//! the beginning. It is written at every step while it changes and for a while after, and not at all while it rests; when it
//! changes again, what it was a step before is written first. So an increase over any window is what was counted in it.
//! The histograms of a label set rest each by itself: most of the file is their lines, and few requests are retried.

use std::array;
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::steps::Step;
use super::text::{Shown, Text, What};
use crate::metrics::label_text;
use crate::record::ChannelId;
use crate::threads::Behind;
use crate::usage::{Key, PARTS, Rules, Series, Touched, Usage};

/// A series that has not changed for so long rests, in seconds: as long as Prometheus looks back for a sample, and some
/// steps of every length more.
const RESTS_AFTER: i64 = 3600;

/// Label sets that are handed on together, to be written as text on another thread, and how often so many may wait for it:
/// all those of a step come at once, and the rows of the next are counted while they are written.
const TOGETHER: usize = 100;
const WAITING: usize = 40;

/// What a scrape would add and new-api tells.
#[derive(Debug, Clone, Default)]
pub(super) struct Target {
    pub(super) job: String,
    pub(super) instance: String,
    pub(super) channel_names: super::Names,
}

impl Target {
    fn channel_name(&self, id: ChannelId) -> &str {
        self.channel_names.get(&id).map_or("", String::as_str)
    }
}

/// A label set that was written.
#[derive(Debug)]
struct Track {
    /// Its labels, without braces.
    labels: Arc<str>,
    shown: Arc<Series>,
    /// When each part changed last, and when it was written.
    changed_at: [i64; PARTS],
    written_at: [i64; PARTS],
}

impl Track {
    fn new(labels: Arc<str>, shown: Arc<Series>) -> Self {
        Self { labels, shown, changed_at: [0; PARTS], written_at: [i64::MIN; PARTS] }
    }

    /// Whether each part is awake at that time.
    fn awake(&self, at: i64) -> [bool; PARTS] {
        self.changed_at.map(|changed_at| at - changed_at <= RESTS_AFTER)
    }

    /// What is to be written of these parts at that time; nothing if they are written up to then.
    fn write(&mut self, mut parts: [bool; PARTS], at: i64) -> Option<Shown> {
        for (wanted, written_at) in parts.iter_mut().zip(&mut self.written_at) {
            *wanted &= *written_at < at;
            if *wanted {
                *written_at = at;
            }
        }
        parts.contains(&true).then(|| Shown {
            labels: Arc::clone(&self.labels),
            what: What::Series(Arc::clone(&self.shown), parts),
            at,
        })
    }
}

/// Lines and bytes of the file so far.
#[derive(Debug, Default)]
pub(super) struct Size {
    pub(super) lines: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// Decides which samples there are.
#[derive(Debug)]
pub(super) struct Samples {
    text: Queue,
    size: Arc<Size>,
    target: Target,
    extra_labels: Vec<&'static str>,
    tracks: HashMap<Arc<Key>, Track>,
    /// How many of them are not at rest.
    awake: usize,
}

/// A part of the file.
#[derive(Debug)]
enum Part {
    Samples(Vec<Shown>),
    End,
}

impl Samples {
    /// They go to `out`, as text.
    pub(super) fn new(
        out: impl Write + Send + 'static,
        target: Target,
        rules: &Rules,
    ) -> std::io::Result<Self> {
        let extra_labels = rules.extra_labels.iter().map(|label| label.as_str()).collect();
        let size = Arc::new(Size::default());
        let mut text = Text::new(out, Arc::clone(&size));
        let text = Behind::start("text", WAITING, move |part| match part {
            Part::Samples(some) => some.iter().try_for_each(|shown| text.write(shown)),
            Part::End => text.end(),
        })?;
        let text = Queue { thread: text, next: Vec::with_capacity(TOGETHER) };
        Ok(Self { text, size, target, extra_labels, tracks: HashMap::new(), awake: 0 })
    }

    /// Whether no series is written until one changes.
    pub(super) fn is_calm(&self) -> bool {
        self.awake == 0
    }

    /// How large the file has become; what waits to be written does not count yet.
    pub(super) fn bytes(&self) -> u64 {
        self.size.bytes.load(Ordering::Relaxed)
    }

    /// How many label sets there are.
    pub(super) fn label_sets(&self) -> i64 {
        i64::try_from(self.tracks.len()).unwrap_or(i64::MAX)
    }

    /// Takes note of what was counted before the first step, and writes none of it.
    pub(super) fn adopt(&mut self, usage: &mut Usage) {
        for (key, series) in
            usage.series().map(|(key, _)| key).filter_map(|key| Some((key, usage.shared(key)?)))
        {
            let labels = label_line(key, &self.extra_labels, &self.target);
            self.tracks.insert(Arc::clone(key), Track::new(labels, series));
        }
        usage.committed();
    }

    /// Writes what `usage` holds at the end of `step`, and what changed since the last one.
    pub(super) fn write(&mut self, usage: &mut Usage, step: Step) -> anyhow::Result<()> {
        self.changed(usage, step)?;
        let mut awake = 0;
        let Self { text, tracks, .. } = self;
        for track in tracks.values_mut() {
            let parts = track.awake(step.at);
            awake += usize::from(parts.contains(&true));
            text.show(track.write(parts, step.at))?;
        }
        self.awake = awake;
        Ok(())
    }

    fn changed(&mut self, usage: &mut Usage, step: Step) -> anyhow::Result<()> {
        let Self { text, target, extra_labels, tracks, .. } = self;
        for Touched { key, .. } in &usage.changes().series {
            let Some(series) = usage.shared(key) else { continue };
            let track = tracks
                .entry(Arc::clone(key))
                .or_insert_with(|| Track::new(label_line(key, extra_labels, target), Arc::default()));
            let changed = array::from_fn(|part| !series.part_is_as_in(&track.shown, part));
            text.show(track.write(changed, step.before))?;
            for (leaf, _) in series.cells().filter(|(leaf, _)| !track.shown.has(*leaf)) {
                let (labels, what) = (Arc::clone(&track.labels), What::Zero(leaf));
                text.show(Some(Shown { labels, what, at: step.before }))?;
            }
            track.shown = series;
            for (changed_at, _) in track.changed_at.iter_mut().zip(changed).filter(|(_, changed)| *changed) {
                *changed_at = step.at;
            }
            text.show(track.write(changed, step.at))?;
        }
        usage.committed();
        Ok(())
    }

    /// Writes the last step, with every series, and ends the file. How many samples and bytes it has.
    pub(super) fn finish(mut self, usage: &mut Usage, step: Step) -> anyhow::Result<(u64, u64)> {
        self.changed(usage, step)?;
        let Self { mut text, size, mut tracks, .. } = self;
        for track in tracks.values_mut() {
            text.show(track.write([true; PARTS], step.at))?;
        }
        text.end()?;
        Ok((size.lines.load(Ordering::Relaxed), size.bytes.load(Ordering::Relaxed)))
    }
}

/// What is to be written, and the thread that does.
#[derive(Debug)]
struct Queue {
    thread: Behind<Part, anyhow::Error>,
    next: Vec<Shown>,
}

impl Queue {
    /// Hands it on once there is enough.
    fn show(&mut self, shown: Option<Shown>) -> anyhow::Result<()> {
        self.next.extend(shown);
        if self.next.len() < TOGETHER { Ok(()) } else { self.hand_on() }
    }

    fn hand_on(&mut self) -> anyhow::Result<()> {
        let next = std::mem::replace(&mut self.next, Vec::with_capacity(TOGETHER));
        self.thread.hand_in(Part::Samples(next))
    }

    /// Ends the file, once all of it is written.
    fn end(&mut self) -> anyhow::Result<()> {
        self.hand_on()?;
        self.thread.hand_in(Part::End)?;
        self.thread.end()
    }
}

fn label_line(key: &Key, extra: &[&'static str], target: &Target) -> Arc<str> {
    let scraped = [("instance", target.instance.clone()), ("job", target.job.clone())];
    label_text(key, |id| target.channel_name(id), extra, &scraped).into()
}
