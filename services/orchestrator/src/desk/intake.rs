//! What comes to the desk is put on the board, and what follows from it is noted to be done.

use drover_bus::{Item, Recorded};
use drover_lifecycle::Fact;
use drover_schemas::{
    subjects::Aggregate,
    v1::{campaign_event, migration_event},
};

use super::{Desk, now};
use crate::follow::News;

impl Desk {
    pub(super) fn take_in(&mut self, news: News) {
        match news {
            News::Anew(campaign) => self.board.forget(&campaign),
            News::Lost(campaign, sequence) => self.board.lose(&campaign, sequence),
            News::Item(campaign, Item::CaughtUp) => {
                self.touch(self.board.waiting(&campaign));
                self.board.go_live(&campaign);
                self.end_campaign(&campaign);
            }
            // A server that was killed may have lost the last orders.
            News::Item(campaign, Item::Resumed) if self.board.is_live(&campaign) => {
                self.touch(self.board.waiting(&campaign));
            }
            News::Item(_, Item::Resumed) => {}
            News::Item(campaign, Item::Undecodable { sequence, subject }) => {
                tracing::error!(%campaign, sequence, subject, "set aside: its history stands still");
            }
            News::Item(_, Item::Event(recorded)) => {
                let (sequence, aggregate) = (recorded.sequence, recorded.aggregate());
                if let Err(reason) = self.take_event(recorded) {
                    metrics::counter!("drover_facts_refused_total").increment(1);
                    tracing::error!(sequence, ?aggregate, reason, "a fact was set aside");
                }
            }
        }
    }

    fn take_event(&mut self, recorded: Recorded) -> Result<(), String> {
        let Recorded { campaign, history, sequence, event } = recorded;
        let live = self.board.is_live(&campaign);
        match history.aggregate() {
            Aggregate::Campaign => {
                let fact = event.decode_campaign().map_err(|error| error.to_string())?;
                let resumed = matches!(fact, campaign_event::Event::CampaignResumed(_));
                let recalls =
                    matches!(&fact, campaign_event::Event::CampaignPaused(p) if p.recalls);
                self.board
                    .take_campaign(&campaign, sequence, fact)
                    .map_err(|error| error.to_string())?;
                if recalls && live {
                    // Before all else that is to be looked at.
                    for key in self.board.to_recall(&campaign) {
                        if let Some(revision) = self.board.revision(&key) {
                            self.touched.push_first(key, revision);
                        }
                    }
                }
                if resumed && live {
                    self.end_campaign(&campaign);
                }
            }
            Aggregate::Migration(id) => {
                let fact = event.decode_migration().map_err(|error| error.to_string())?;
                let key = (campaign, id);
                if !self.board.admits(&key, &history, &fact) {
                    return Err("it names other servers than its migration's".to_owned());
                }
                let at_unix_ms = event.time.timestamp_millis();
                let fact = Fact { revision: sequence, at_unix_ms, event: fact }.taken_at(now());
                let Fact { at_unix_ms: at, event: fact, .. } = fact;
                if live {
                    self.tell(&key, sequence, &fact);
                }
                let has_failed = matches!(
                    fact,
                    migration_event::Event::StepFailed(_)
                        | migration_event::Event::MigrationParked(_)
                );
                self.board
                    .take_migration(&key, sequence, at, fact)
                    .map_err(|error| error.to_string())?;
                if live {
                    let ended = self.board.has_ended(&key);
                    self.touched.push(key.clone(), sequence);
                    if has_failed {
                        self.judge(&key.0);
                    }
                    if ended {
                        self.end_campaign(&key.0);
                    }
                }
            }
        }
        Ok(())
    }
}
