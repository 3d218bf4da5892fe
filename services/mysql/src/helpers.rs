//! Sessions that load a large database's rows side by side.
//!
//! A table's frames all go to the same helper, in their order: where a table has no key, its rows
//! come to lie as they lay at the source; and nobody waits for another's locks. Which helper that
//! is, is settled by the manifest: the largest tables first, each to whoever has the least.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    Error, Frame, FrameKind, Order, Server, Session,
    load::{self, DOING, begin, failed},
    slices::{LARGE_BYTES_MIN, SIDE_BY_SIDE_MAX},
    team::{Team, words},
};

/// A frame with its text.
type Text = (Frame, Vec<u8>);

/// The helpers of one loader.
pub(crate) struct Helpers {
    begin: Option<(Server, Order, Uuid)>,
    /// For each table its helper.
    of_table: BTreeMap<String, usize>,
    /// What each of them runs first: the settings.
    settings: Vec<Text>,
    to: Vec<mpsc::Sender<Text>>,
    team: Team<()>,
    words: tokio::time::Interval,
}

impl Helpers {
    /// None are wanted where the rows are few, or all of one table.
    pub(crate) fn new(server: &Server, order: &Order, loader: Uuid, frames: &[Frame]) -> Self {
        let of_table = shares(frames);
        let wanted = !of_table.is_empty();
        Self {
            begin: wanted.then(|| (server.clone(), order.clone(), loader)),
            of_table,
            settings: Vec::new(),
            to: Vec::new(),
            team: Team::default(),
            words: words(),
        }
    }

    pub(crate) fn are_wanted(&self) -> bool {
        !self.of_table.is_empty()
    }

    /// Tells them a frame that sets how rows are loaded.
    pub(crate) fn tell(&mut self, frame: &Frame, text: Vec<u8>) {
        if self.are_wanted() {
            self.settings.push((frame.clone(), text));
        }
    }

    /// Gives a frame of rows to whose it is. The loader's own session speaks meanwhile.
    pub(crate) async fn give(
        &mut self,
        session: &mut Session,
        frame: &Frame,
        text: Vec<u8>,
    ) -> Result<(), Error> {
        self.start();
        let at = self.of_table.get(&frame.name).copied().unwrap_or_default();
        let Some(to) = self.to.get(at).cloned() else { return Ok(()) };
        let given = to.send((frame.clone(), text));
        tokio::pin!(given);
        loop {
            tokio::select! {
                // One that has ended early has failed, and says why.
                sent = &mut given => match sent {
                    Ok(()) => return Ok(()),
                    Err(_) => return self.team.next().await,
                },
                ended = self.team.next() => ended?,
                _ = self.words.tick() => session.run(DOING, "DO 1").await.map_err(failed)?,
            }
        }
    }

    /// Waits until all that was given is loaded and committed.
    pub(crate) async fn end(&mut self, session: &mut Session) -> Result<(), Error> {
        self.to.clear();
        while !self.team.is_empty() {
            tokio::select! {
                ended = self.team.next() => ended?,
                _ = self.words.tick() => session.run(DOING, "DO 1").await.map_err(failed)?,
            }
        }
        Ok(())
    }

    fn start(&mut self) {
        let Some((server, order, loader)) = self.begin.take() else { return };
        let settings = Arc::new(std::mem::take(&mut self.settings));
        let number = self.of_table.values().max().map_or(0, |last| last + 1);
        for helper in 1..=number {
            let (to, texts) = mpsc::channel(1);
            self.to.push(to);
            let (server, order, settings) = (server.clone(), order.clone(), settings.clone());
            self.team.spawn(async move {
                let session = begin(&server, &order, loader, helper).await?;
                help(session, &settings, texts).await
            });
        }
    }
}

async fn help(
    mut session: Session,
    settings: &[Text],
    mut texts: mpsc::Receiver<Text>,
) -> Result<(), Error> {
    for (frame, text) in settings {
        load::run(&mut session, frame, text).await?;
    }
    let mut words = words();
    loop {
        tokio::select! {
            text = texts.recv() => match text {
                Some((frame, text)) => load::run(&mut session, &frame, &text).await?,
                None => break,
            },
            // The store may be slow.
            _ = words.tick() => session.run(DOING, "DO 1").await.map_err(failed)?,
        }
    }
    session.run(DOING, "COMMIT").await.map_err(failed)?;
    session.end().await.map_err(failed)
}

/// For each table its helper; nothing where helpers are not worth it.
fn shares(frames: &[Frame]) -> BTreeMap<String, usize> {
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    for frame in frames.iter().filter(|frame| frame.kind == FrameKind::Rows) {
        *bytes.entry(&frame.name).or_default() += frame.text_bytes;
    }
    if bytes.len() < 2 || bytes.values().sum::<u64>() < LARGE_BYTES_MIN {
        return BTreeMap::new();
    }
    let mut tables: Vec<_> = bytes.into_iter().collect();
    tables.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let mut has = vec![0; SIDE_BY_SIDE_MAX.min(tables.len())];
    let mut shares = BTreeMap::new();
    for (name, bytes) in tables {
        let least = has.iter().enumerate().min_by_key(|(_, has)| **has).map_or(0, |(at, _)| at);
        has[least] += bytes;
        shares.insert(name.to_owned(), least);
    }
    shares
}
