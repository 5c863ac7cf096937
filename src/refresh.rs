//! Keeps the directory (channels, abilities, exchange rates) fresh, and the names of deleted channels.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::newapi::{Database, Directory, ReadError};
use crate::record::ChannelId;
use crate::state::State;
use crate::store::{Store, StoreError};

/// Pause between readings.
const INTERVAL: Duration = Duration::from_secs(10);

/// Pause after a failed one while nothing is known yet.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Reads new-api's main database now and then.
#[derive(Debug)]
pub struct Refresher {
    database: Database,
    store: Store,
    state: State,
}

impl Refresher {
    /// Restores the names that are remembered.
    ///
    /// # Errors
    /// If monitor.db cannot be read.
    pub fn new(database: Database, store: Store, state: State) -> Result<Self, StoreError> {
        let names = store.channel_names()?;
        state.update_facts(|facts| facts.channel_names = Arc::new(names));
        let source = database.engine().to_string();
        state.update_directory(|directory| directory.source = source);
        Ok(Self { database, store, state })
    }

    /// Refreshes until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut failing = false;
        while !stop.is_cancelled() {
            let result = self.tick().await;
            if let Err(error) = &result
                && !failing
            {
                tracing::warn!("new-api's channels cannot be read: {error}");
            }
            failing = result.is_err();
            let ready = self.state.directory().ready;
            let pause = if ready { INTERVAL } else { FIRST_RETRY };
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        Ok(())
    }

    /// Reads once and publishes what is new.
    ///
    /// # Errors
    /// If either database fails; what is known stays.
    pub async fn tick(&self) -> anyhow::Result<()> {
        match self.refresh().await {
            Ok(()) => {
                self.state.update_directory(|status| {
                    status.ready = true;
                    status.error = None;
                });
                Ok(())
            }
            Err(error) => {
                let words = match error.downcast_ref::<ReadError>() {
                    Some(error) => error.words(),
                    None => "monitor.db cannot be written".to_owned(),
                };
                self.state.update_directory(|status| status.error = Some(words));
                Err(error)
            }
        }
    }

    async fn refresh(&self) -> anyhow::Result<()> {
        let directory = Directory::read(&self.database).await?;
        let facts = self.state.facts();
        let renamed: Vec<(ChannelId, String)> = directory
            .channels
            .iter()
            .filter(|(id, channel)| facts.channel_names.get(id) != Some(&channel.name))
            .map(|(id, channel)| (*id, channel.name.clone()))
            .collect();
        if !renamed.is_empty() {
            let (store, renamed) = (self.store.clone(), renamed.clone());
            tokio::task::spawn_blocking(move || store.save_channel_names(&renamed)).await??;
        }
        if *facts.directory != directory {
            self.state.update_facts(|facts| {
                facts.directory = Arc::new(directory);
                // Meanwhile the tailer may have added some that rows told.
                Arc::make_mut(&mut facts.channel_names).extend(renamed);
            });
        }
        Ok(())
    }
}
