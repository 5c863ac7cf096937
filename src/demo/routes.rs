//! Which channels may serve which model: what new-api decides from `abilities` before each attempt.
//!
//! Holds no database; [`super::writer`] reads the abilities of a live one.

use super::dice::Dice;
use super::world::{self, CHANNELS, GROUPS, MODELS, status};

/// A line of `abilities` that is enabled, by indexes into the lists of [`world`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ability {
    /// Into [`GROUPS`].
    pub group: usize,
    /// Into [`MODELS`].
    pub model: usize,
    /// Into [`CHANNELS`].
    pub channel: usize,
    /// Higher ones are tried first.
    pub priority: i64,
    /// Among equals.
    pub weight: i64,
}

/// The enabled abilities, ready to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    /// For each group and model the channels, in falling order of priority.
    choices: Vec<Vec<Ability>>,
}

impl Routes {
    /// The routes of a world that nobody has touched.
    pub fn initial() -> Self {
        Self::from_abilities(
            abilities().filter(|ability| CHANNELS[ability.channel].status == status::ENABLED),
        )
    }

    /// Only what is given is enabled.
    pub fn from_abilities(abilities: impl Iterator<Item = Ability>) -> Self {
        let mut choices = vec![Vec::new(); GROUPS.len() * MODELS.len()];
        for ability in abilities {
            choices[slot(ability.group, ability.model)].push(ability);
        }
        for choice in &mut choices {
            choice.sort_by_key(|ability| (-ability.priority, ability.channel));
        }
        Self { choices }
    }

    /// A channel for the attempt (0 is the first), or `None` if the model has none. Each further attempt goes one
    /// priority down, as far as there is one, and may hit the same channel again.
    pub fn pick(&self, dice: &mut Dice, group: usize, model: usize, attempt: usize) -> Option<usize> {
        let choice = &self.choices[slot(group, model)];
        let mut tiers = choice.chunk_by(|a, b| a.priority == b.priority);
        let tier = tiers.clone().nth(attempt).or_else(|| tiers.next_back())?;
        if let [only] = tier {
            return Some(only.channel);
        }
        Some(tier[dice.weighted(tier.iter().map(|ability| ability.weight as f64 + 1.0))].channel)
    }

    /// Whether the channel may serve the model, as a request that names its channel needs.
    pub fn allows(&self, group: usize, model: usize, channel: usize) -> bool {
        self.choices[slot(group, model)].iter().any(|ability| ability.channel == channel)
    }

    /// Whether the channel serves anything.
    pub fn uses(&self, channel: usize) -> bool {
        self.choices.iter().flatten().any(|ability| ability.channel == channel)
    }
}

fn slot(group: usize, model: usize) -> usize {
    group * MODELS.len() + model
}

/// All abilities of the untouched world, those of disabled channels too.
pub fn abilities() -> impl Iterator<Item = Ability> {
    CHANNELS.iter().enumerate().flat_map(|(index, channel)| {
        channel.groups.split(',').filter_map(world::group).flat_map(move |group| {
            channel.models.split(',').filter_map(world::model).map(move |model| Ability {
                group,
                model,
                channel: index,
                priority: channel.priority,
                weight: channel.weight,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_go_down_in_priority_and_disabled_channels_are_never_picked() {
        let routes = Routes::initial();
        let mut dice = Dice::new(1, 1);
        let (gemini, mini) = (world::model("gemini-2.5-pro").unwrap(), world::model("gpt-4o-mini").unwrap());
        let ids: Vec<_> =
            (0..4).map(|attempt| CHANNELS[routes.pick(&mut dice, 0, gemini, attempt).unwrap()].id).collect();
        assert_eq!(ids, [6, 7, 3, 3]);

        let picked: Vec<_> =
            (0..500).map(|_| CHANNELS[routes.pick(&mut dice, 0, mini, 0).unwrap()].id).collect();
        assert!(picked.iter().all(|id| [1, 2].contains(id)));
        let main = picked.iter().filter(|id| **id == 1).count();
        assert!((320..420).contains(&main), "{main} of 500 by weight");
    }

    #[test]
    fn a_model_without_channels_has_no_route() {
        let sora = world::model("sora-2").unwrap();
        let without =
            Routes::from_abilities(abilities().filter(|ability| CHANNELS[ability.channel].id != 10));
        assert_eq!(without.pick(&mut Dice::new(1, 1), 0, sora, 0), None);
        assert!(!without.uses(world::channel(10).unwrap()) && Routes::initial().allows(0, sora, 9));
    }
}
