//! Scenarios: files that people read and write. What is in a fleet, what goes wrong and how often, and how long it may
//! take until all is well once nothing does.

use std::{collections::BTreeSet, fmt, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Map, Value};

/// Those that come with the program, by name.
const KNOWN: &[(&str, &str)] = &[
    ("calm", include_str!("../scenarios/calm.toml")),
    ("clocks", include_str!("../scenarios/clocks.toml")),
    ("cloned", include_str!("../scenarios/cloned.toml")),
    ("clusters-suffer", include_str!("../scenarios/clusters-suffer.toml")),
    ("everyone-returns", include_str!("../scenarios/everyone-returns.toml")),
    ("hostile-broker", include_str!("../scenarios/hostile-broker.toml")),
    ("hub-lost", include_str!("../scenarios/hub-lost.toml")),
    ("month-offline", include_str!("../scenarios/month-offline.toml")),
    ("stolen-key", include_str!("../scenarios/stolen-key.toml")),
    ("swarm", include_str!("../scenarios/swarm.toml")),
    ("tower-outage", include_str!("../scenarios/tower-outage.toml")),
];

/// Most clusters: what a hub takes connections of is less.
const CLUSTERS_MAX: usize = 200_000;

/// A time as people write it: `90s`, `10m`, `8h`, `30d` (RFC 9557's extended durations, as jiff reads them).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let problem =
            |why: &str| D::Error::custom(format!("{text:?} is no time such as \"90s\" or \"8h\": {why}"));
        let span = text.parse::<Span>();
        let signed = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
        let signed = signed.map_err(|error| problem(&error.to_string()))?;
        Duration::try_from(signed).map(Self).map_err(|_| problem("it is negative"))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let signed = SignedDuration::try_from(self.0).map_err(S::Error::custom)?;
        serializer.collect_str(&format_args!("{signed:#}"))
    }
}

/// What is simulated.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// What it is about, in a sentence.
    pub about: String,
    /// How many clusters there are, unless the command says otherwise.
    pub clusters: usize,
    /// How many days things go on, unless the command says otherwise.
    pub days: u32,
    /// How often an operator changes what runs: one of the fleet's applications gets its other release.
    pub change_every: Time,
    /// Once nothing goes wrong any more, every cluster must have the newest state within this.
    pub settles_within: Time,
    /// In how many regions they stand.
    #[serde(default = "one")]
    pub regions: usize,
    /// What goes wrong. All of it is off where nothing is said.
    #[serde(default)]
    pub faults: Faults,
    /// The way between hub and clusters.
    #[serde(default)]
    pub link: Link,
}

/// The way between hub and clusters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Link {
    /// The shortest time that a message is on its way.
    pub fastest: Time,
    /// The longest.
    pub slowest: Time,
}

impl Default for Link {
    fn default() -> Self {
        Self { fastest: Time(Duration::from_millis(20)), slowest: Time(Duration::from_millis(200)) }
    }
}

/// What goes wrong. Chances are in a million; times are means, for each cluster, between two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Faults {
    /// Messages that a broker drops.
    pub lost: u32,
    /// Messages that it delivers twice.
    pub doubled: u32,
    /// Messages that overtake, or are overtaken: late by up to a minute.
    pub late: u32,
    /// Messages that it delivers to another cluster too.
    pub misdelivered: u32,
    /// Messages of which it delivers an older one again.
    pub replayed: u32,
    /// Messages of which one bit is flipped.
    pub flipped: u32,
    /// Requests to which the API server does not answer in time.
    pub unanswered: u32,
    /// Requests that it refuses for being away.
    pub refused: u32,
    /// Applies that the API server refuses, since somebody else writes the same object.
    pub contended: u32,
    /// A broker that sends a cluster, and the hub, much that is worth nothing.
    pub flooded_every: Option<Time>,
    /// Somebody who has the hub's key and tells a cluster to run something else.
    pub key_stolen_every: Option<Time>,
    /// A link that is slow: 9,600 bits a second.
    pub slow_every: Option<Time>,
    /// For at most so long.
    pub slow_for: Option<Time>,
    /// The tenant's namespace, which is deleted and stays for something that does not let go.
    pub namespace_stuck_every: Option<Time>,
    /// For at most so long; then it goes, and people make it anew.
    pub namespace_stuck_for: Option<Time>,
    /// An API server that is restored from a backup.
    pub cluster_restored_every: Option<Time>,
    /// A disk that is copied into another machine, which runs beside the first.
    pub cloned_every: Option<Time>,
    /// For at most so long.
    pub cloned_for: Option<Time>,
    /// A link that is cut.
    pub cut_every: Option<Time>,
    /// For at most so long.
    pub cut_for: Option<Time>,
    /// Power that fails.
    pub crash_every: Option<Time>,
    /// For at most so long.
    pub crash_for: Option<Time>,
    /// A flush of the journal that fails.
    pub flush_fails_every: Option<Time>,
    /// A disk that is full.
    pub full_every: Option<Time>,
    /// For at most so long.
    pub full_for: Option<Time>,
    /// A disk that is replaced by an image of what it was some time before.
    pub old_disk_every: Option<Time>,
    /// A journal that is lost.
    pub journal_lost_every: Option<Time>,
    /// A clock that is wrong: by up to an hour, at 1970, or ten years ahead.
    pub clock_wrong_every: Option<Time>,
    /// For at most so long.
    pub clock_wrong_for: Option<Time>,
    /// The hub's own, by as much. For the whole fleet.
    pub hub_clock_wrong_every: Option<Time>,
    /// For at most so long.
    pub hub_clock_wrong_for: Option<Time>,
    /// A region whose links are all cut at once. For the whole fleet.
    pub region_cut_every: Option<Time>,
    /// For at most so long.
    pub region_cut_for: Option<Time>,
    /// Power that is switched off to save it, once in so long at every site.
    pub power_saved_every: Option<Time>,
    /// For so long.
    pub power_saved_for: Option<Time>,
    /// A link that is up once in so long only.
    pub up_every: Option<Time>,
    /// For so long.
    pub up_for: Option<Time>,
    /// Somebody who changes, or deletes, an object by hand.
    pub edited_every: Option<Time>,
    /// The hub, which ends and starts again from its store. For the whole fleet.
    pub hub_ends_every: Option<Time>,
    /// The hub, whose machine is lost. It is restored from its last backup. For the whole fleet.
    pub hub_lost_every: Option<Time>,
    /// Backups are made so often.
    pub backed_up_every: Option<Time>,
    /// After at most so long an operator accepts what the restored hub learned, and applies again what is wanted.
    pub accepted_within: Option<Time>,
}

const fn one() -> usize {
    1
}

impl Faults {
    /// What can go wrong, by the names that [`Faults::without`] takes.
    pub fn known() -> BTreeSet<String> {
        Self::default().settings().keys().map(|setting| fault(setting).to_owned()).collect()
    }

    /// What goes wrong here.
    pub fn happening(&self) -> BTreeSet<String> {
        let nothing = Self::default().settings();
        let settings = self.settings();
        let set = settings.iter().filter(|(setting, value)| nothing.get(setting.as_str()) != Some(*value));
        set.map(|(setting, _)| fault(setting).to_owned()).collect()
    }

    /// All but the named ones.
    ///
    /// # Errors
    /// When there is no fault of such a name.
    pub fn without(&self, names: &BTreeSet<String>) -> Result<Self> {
        let known = Self::known();
        if let Some(unknown) = names.difference(&known).next() {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            bail!("there is no fault {unknown}: give some of {}", known.join(", "));
        }
        let mut settings = self.settings();
        settings.retain(|setting, _| !names.contains(fault(setting)));
        Ok(serde_json::from_value(Value::Object(settings))?)
    }

    fn settings(&self) -> Map<String, Value> {
        let settings = serde_json::to_value(self).expect("its times are ones that were read");
        settings.as_object().cloned().expect("a struct is an object")
    }
}

/// To which fault a setting belongs.
fn fault(setting: &str) -> &str {
    setting.strip_suffix("-every").or_else(|| setting.strip_suffix("-for")).unwrap_or(setting)
}

impl Scenario {
    /// One that comes with the program, or a file.
    ///
    /// # Errors
    /// When there is none, or what it says makes no sense.
    pub fn read(name: &str) -> Result<Self> {
        let known = KNOWN.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned());
        let text = match known {
            Some(text) => text,
            None if Path::new(name).is_file() => {
                std::fs::read_to_string(name).with_context(|| format!("read scenario {name}"))?
            }
            None => {
                let names: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
                bail!("there is no scenario {name}: give a file, or one of {}", names.join(", "));
            }
        };
        let scenario: Self = toml::from_str(&text).with_context(|| format!("scenario {name}"))?;
        scenario.check().with_context(|| format!("scenario {name}"))?;
        Ok(scenario)
    }

    /// How long things go wrong, and until all must be well.
    pub fn lasts(&self) -> Duration {
        Duration::from_secs(u64::from(self.days) * 24 * 60 * 60) + self.settles_within.0
    }

    /// Whether what it says makes sense.
    ///
    /// # Errors
    /// What does not, and what to write instead.
    pub fn check(&self) -> Result<()> {
        ensure!((1..=CLUSTERS_MAX).contains(&self.clusters), "clusters: give 1 to {CLUSTERS_MAX}");
        ensure!(self.days >= 1, "days: give at least 1");
        ensure!(self.link.fastest <= self.link.slowest, "link.fastest: it is slower than link.slowest");
        ensure!(!self.change_every.0.is_zero(), "change-every: give more than nothing");
        let faults = &self.faults;
        for (name, every) in [
            ("flooded-every", faults.flooded_every),
            ("key-stolen-every", faults.key_stolen_every),
            ("slow-every", faults.slow_every),
            ("namespace-stuck-every", faults.namespace_stuck_every),
            ("cluster-restored-every", faults.cluster_restored_every),
            ("cloned-every", faults.cloned_every),
            ("cut-every", faults.cut_every),
            ("crash-every", faults.crash_every),
            ("flush-fails-every", faults.flush_fails_every),
            ("full-every", faults.full_every),
            ("old-disk-every", faults.old_disk_every),
            ("journal-lost-every", faults.journal_lost_every),
            ("clock-wrong-every", faults.clock_wrong_every),
            ("hub-clock-wrong-every", faults.hub_clock_wrong_every),
            ("region-cut-every", faults.region_cut_every),
            ("power-saved-every", faults.power_saved_every),
            ("up-every", faults.up_every),
            ("edited-every", faults.edited_every),
            ("hub-ends-every", faults.hub_ends_every),
            ("hub-lost-every", faults.hub_lost_every),
            ("backed-up-every", faults.backed_up_every),
        ] {
            let is_often = every.is_some_and(|every| every.0 < Duration::from_secs(1));
            ensure!(!is_often, "faults.{name}: give at least 1s");
        }
        for (name, every, lasts) in [
            ("power-saved", faults.power_saved_every, faults.power_saved_for),
            ("up", faults.up_every, faults.up_for),
        ] {
            let fits = match (every, lasts) {
                (Some(every), Some(lasts)) => lasts < every,
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            ensure!(fits, "faults.{name}-every: give faults.{name}-for too, and a shorter time");
        }
        let is_restored = faults.backed_up_every.is_some() && faults.accepted_within.is_some();
        ensure!(
            faults.hub_lost_every.is_none() || is_restored,
            "faults.hub-lost-every: give faults.backed-up-every and faults.accepted-within too"
        );
        ensure!(
            faults.key_stolen_every.is_none() || faults.accepted_within.is_some(),
            "faults.key-stolen-every: give faults.accepted-within too"
        );
        ensure!((1..=self.clusters).contains(&self.regions), "regions: give 1 to as many as clusters");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_come_with_it_are_read_and_mistakes_are_named() {
        for (name, _) in KNOWN {
            Scenario::read(name).unwrap();
        }
        let base = "about = 'x'\nclusters = 3\ndays = 1\nchange-every = '1h'\nsettles-within = '1h'\n";
        for (more, part) in [
            ("[faults]\nlots = 1\n", "unknown field `lots`"),
            ("[faults]\ncut-every = '-1h'\n", "it is negative"),
            ("[faults]\ncut-every = 'soon'\n", "\"soon\" is no time"),
            ("[link]\nfastest = '2s'\nslowest = '1s'\n", "link.fastest"),
            ("[faults]\ncrash-every = '1ms'\n", "faults.crash-every"),
            ("[faults]\nup-every = '1h'\nup-for = '2h'\n", "faults.up-every"),
            ("[faults]\nhub-lost-every = '1d'\n", "faults.backed-up-every"),
            ("regions = 4\n", "regions: give 1"),
        ] {
            let read = toml::from_str::<Scenario>(&format!("{base}{more}")).map_err(anyhow::Error::from);
            let problem = read.and_then(|scenario| scenario.check()).unwrap_err().to_string();
            assert!(problem.contains(part), "{problem}");
        }
        assert!(Scenario::read("storm").unwrap_err().to_string().contains("calm, clocks"));
    }

    #[test]
    fn faults_are_left_out_by_name() {
        let faults = Scenario::read("swarm").unwrap().faults;
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(faults.without(&names(&[])).unwrap(), faults);
        let fewer = faults.without(&names(&["cut", "late"])).unwrap();
        assert_eq!((fewer.cut_every, fewer.cut_for, fewer.late), (None, None, 0));
        assert_eq!(
            Faults { late: faults.late, cut_every: faults.cut_every, cut_for: faults.cut_for, ..fewer },
            faults
        );
        let all = faults.happening();
        assert!(all.is_superset(&names(&["hub-lost", "accepted-within", "lost"])), "{all:?}");
        assert!(!all.contains("up") && Faults::known().contains("up"));
        assert_eq!(faults.without(&all).unwrap(), Faults::default());
        let problem = faults.without(&names(&["rain"])).unwrap_err().to_string();
        assert!(
            problem.contains("no fault rain: give some of accepted-within, backed-up, clock-wrong, cloned"),
            "{problem}"
        );
    }
}
