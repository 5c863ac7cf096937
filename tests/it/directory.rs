//! What new-api knows besides its log is read whole, however long its texts are.

use std::collections::BTreeSet;

use token_monitor::newapi::dsn::Dsn;
use token_monitor::newapi::{Database as Reader, Directory};

use crate::schema::Version;
use crate::servers::{Database, Engine};

/// Channels with a megabyte of models each; a read ends after eight megabytes.
const CHANNELS: i64 = 12;

/// Groups and models that are more than eight megabytes together.
const ABILITIES: usize = 42_000;

fn model(number: usize) -> String {
    format!("{number}-{}", "模型".repeat(30))
}

async fn is_read_whole(engine: Engine) {
    let database = Database::create(engine, Version::V1_0_0Rc24).await;
    let (group, key) = (engine.identifier("group"), engine.identifier("key"));
    for id in 1..=CHANNELS {
        let models = format!("own-{id},{}", "m".repeat(1_000_000));
        database
            .exec(&format!(
                "INSERT INTO channels (id, {key}, status, name, models) VALUES ({id}, '', 1, 'channel {id}', '{models}')"
            ))
            .await;
    }
    let numbers: Vec<usize> = (0..ABILITIES).collect();
    for some in numbers.chunks(1000) {
        let row = |number: &usize| {
            let (name, enabled) =
                (["default", "vip", "Ärger"][number % 3], engine.boolean(!number.is_multiple_of(7)));
            format!("('{name}', '{}', 1, {enabled})", model(*number))
        };
        let rows = some.iter().map(row).collect::<Vec<_>>().join(", ");
        let insert = format!("INSERT INTO abilities ({group}, model, channel_id, enabled) VALUES {rows}");
        database.exec(&insert).await;
    }
    let reader = Reader::new(&Dsn::parse(&database.url).expect("an address"));
    let directory = Directory::read(&reader).await.expect("reading it");
    reader.close().await;

    assert_eq!(directory.channels.keys().copied().collect::<Vec<_>>(), (1..=CHANNELS).collect::<Vec<_>>());
    assert!((1..=CHANNELS).all(|id| directory.models.contains(&format!("own-{id}"))), "{engine:?}");
    assert_eq!(directory.abilities.len(), ABILITIES, "{engine:?}");
    let known: BTreeSet<&String> = directory.abilities.keys().map(|(_, model)| model).collect();
    let missing = numbers.iter().filter(|number| !known.contains(&model(**number))).count();
    assert_eq!(missing, 0, "{engine:?}");
    let enabled: u32 = directory.abilities.values().sum();
    assert_eq!(
        enabled as usize,
        numbers.iter().filter(|number| !number.is_multiple_of(7)).count(),
        "{engine:?}"
    );
    assert_eq!(directory.last_of[&1].len(), enabled as usize, "{engine:?}");
}

#[tokio::test]
async fn a_directory_with_long_texts_is_read_whole_from_every_database() {
    for engine in Engine::ALL {
        is_read_whole(engine).await;
    }
}
