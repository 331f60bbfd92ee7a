//! `wal store`: what the database of the store must have, what it has, and the steps between. And opening it, for what runs here.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use wal_open::{Error, Named};
use wal_runtime::config::{Kafka, Settings};
use wal_store::EntryStore;
use wal_store::arango::schema::{self, Difference};
use wal_store::arango::{OpenError, Options};

use crate::args;
use crate::paint::Tone;
use crate::problem::{Exit, Problem};
use crate::screen::{Format, Screen, Table};
use crate::settings;

/// A person waits: a database that is there answers in far less.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens the store that the settings name, for services of this process.
pub async fn open(settings: &Settings) -> Result<Arc<dyn EntryStore>, Problem> {
    let kafka = Kafka::read(settings).map_err(|error| settings::invalid(&error))?;
    let patience = kafka.start_timeout.min(PATIENCE);
    let waits = |why: &str| tracing::warn!(why, "the database does not answer yet");
    wal_open::open(settings, patience, waits).await.map_err(|error| problem(&error))
}

/// Runs `wal store`.
pub async fn run(screen: &Screen, settings: &Settings, command: args::Store) -> Result<Exit, Problem> {
    let options = match Named::read(settings).map_err(|error| settings::invalid(&error))? {
        Named::ArangoDb(options) => *options,
        Named::Embedded(folder) => {
            let what = format!("look after a database: the store is the folder {}, which needs none", folder.display());
            let hint = "store.backend = \"arangodb\", in a file (--config) or as WAL__STORE__BACKEND";
            return Err(Problem::new(Exit::Usage, "WAL_STORE_EMBEDDED", what).hint(hint));
        }
    };
    let failed = |error| problem(&Error::of_database(settings, error));
    match command {
        args::Store::Plan => {
            let plan = schema::plan(&options).await.map_err(failed)?;
            show(screen, &plan, Tense::WouldBe)?;
            note_plan(screen, &options, &plan);
            Ok(Exit::Done)
        }
        args::Store::Apply => match schema::apply(&options).await {
            Ok(done) => {
                show(screen, &done, Tense::Was)?;
                let text = if done.is_empty() { "nothing to do" } else { "services can start" };
                screen.note(&screen.err.tone(Tone::Good, text));
                Ok(Exit::Done)
            }
            // What no command of ours can change is left over.
            Err(OpenError::Schema(left)) => {
                show(screen, &left, Tense::MustBe)?;
                screen.note(&screen.err.tone(Tone::Bad, "the rest is done, this cannot be"));
                Ok(Exit::Partial)
            }
            Err(error) => Err(failed(error)),
        },
        args::Store::Check => match schema::check(&options).await {
            Ok(()) => {
                screen.note(
                    &screen.err.tone(Tone::Good, "services can start, and every statement is served by its index"),
                );
                Ok(Exit::Done)
            }
            Err(OpenError::Schema(found)) => {
                show(screen, &found, Tense::MustBe)?;
                Err(unfit(found.len()))
            }
            Err(error) => Err(failed(error)),
        },
    }
}

fn note_plan(screen: &Screen, options: &Options, plan: &[Difference]) {
    let text = match plan {
        [] => "nothing to do".to_owned(),
        [Difference::NoDatabase { .. }] => {
            format!(
                "with it come the collections {0}entries and {0}store and their indexes; `wal store apply` makes them all",
                options.prefix
            )
        }
        plan if plan.iter().any(|step| matches!(step, Difference::NoCollection { .. })) => {
            "a collection comes with its indexes; `wal store apply` does it".to_owned()
        }
        plan => format!("{} to make or change; `wal store apply` does it", plan.len()),
    };
    screen.note(&screen.err.tone(Tone::Strong, &text));
}

fn unfit(count: usize) -> Problem {
    let things = if count == 1 { "one thing is" } else { &format!("{count} things are") };
    let what = format!("find the database as it must be: {things} not");
    Problem::new(Exit::Failed, "WAL_STORE_UNFIT", what).hint("`wal store plan`, then `wal store apply`")
}

/// Why the store cannot be used, and what to do about it.
pub fn problem(error: &Error) -> Problem {
    let of = |code| Problem::new(Exit::Failed, code, "use the store").because(error);
    match error {
        Error::Config(error) => settings::invalid(error),
        Error::Folder(_) => {
            Problem::of(Exit::Failed, "WAL_STORE_UNUSABLE", error).hint("another folder: --data FOLDER")
        }
        Error::Schema(_) => of("WAL_STORE_UNFIT").hint("`wal store plan`, then `wal store apply`"),
        Error::Unavailable { .. } | Error::Database(OpenError::Unavailable(_)) => {
            of("WAL_STORE_UNAVAILABLE").hint("is ArangoDB running there? See store.arangodb.endpoints")
        }
        Error::Database(_) => of("WAL_STORE_UNUSABLE").hint("see [store.arangodb] in config/default.toml"),
    }
}

/// How a step is told.
#[derive(Clone, Copy)]
enum Tense {
    WouldBe,
    Was,
    MustBe,
}

/// A step as `-o json` shows it. Printed, keep stable.
#[derive(Debug, PartialEq, Serialize)]
struct StepJson<'a> {
    thing: &'static str,
    name: &'a str,
    step: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differs: Vec<String>,
}

impl StepJson<'_> {
    fn of(difference: &Difference) -> StepJson<'_> {
        let (thing, name, step, differs) = match difference {
            Difference::NoDatabase { name } => ("database", name.as_str(), "create", Vec::new()),
            Difference::NoCollection { name } => ("collection", name.as_str(), "create", Vec::new()),
            Difference::Property { collection, name, found, wanted } => {
                ("collection", collection.as_str(), "change", vec![format!("{name}: {found} → {wanted}")])
            }
            Difference::Fixed { collection, name, found } => {
                ("collection", collection.as_str(), "impossible", vec![format!("{name}: {found} cannot be changed")])
            }
            Difference::NoIndex { name } => ("index", *name, "create", Vec::new()),
            Difference::Index { name, found, .. } => ("index", *name, "recreate", found.clone()),
            Difference::Unserved { statement, why } => ("statement", *statement, "impossible", vec![why.clone()]),
        };
        StepJson { thing, name, step, differs }
    }
}

fn show(screen: &Screen, steps: &[Difference], tense: Tense) -> Result<(), Problem> {
    let steps = steps.iter().map(StepJson::of);
    if screen.format == Format::Json {
        return steps.into_iter().try_for_each(|step| screen.json(&step));
    }
    if steps.len() == 0 {
        return Ok(());
    }
    let mut table = Table::new(&["thing", "name", "step"]);
    for step in steps {
        let told = told(&step, tense, screen.width.is_some());
        table.row(vec![(Tone::Faint, step.thing.to_owned()), (Tone::Name, step.name.to_owned()), told]);
    }
    screen.line(&screen.table(&table))
}

/// A step in words; on a terminal, each difference on a line of its own.
fn told(step: &StepJson<'_>, tense: Tense, has_lines: bool) -> (Tone, String) {
    let (tone, word) = match (step.step, tense) {
        ("impossible", _) => (Tone::Bad, "must be mended by hand"),
        ("create", Tense::WouldBe) => (Tone::Odd, "create"),
        ("create", Tense::Was) => (Tone::Good, "created"),
        ("create", Tense::MustBe) => (Tone::Bad, "missing"),
        ("recreate", Tense::WouldBe) => (Tone::Odd, "make anew"),
        ("recreate", Tense::Was) => (Tone::Good, "made anew"),
        (_, Tense::WouldBe) => (Tone::Odd, "change"),
        (_, Tense::Was) => (Tone::Good, "changed"),
        (_, Tense::MustBe) => (Tone::Bad, "differs"),
    };
    let separator = if has_lines { "\n" } else { "; " };
    (tone, [&[word.to_owned()][..], &step.differs].concat().join(separator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_for_people() {
        let index = Difference::Index { name: "wal_due", id: "1".into(), found: vec!["sparse false".into()] };
        let fixed = Difference::Fixed { collection: "c".into(), name: "type", found: 3.into() };
        let say = |difference: &Difference, tense| told(&StepJson::of(difference), tense, false);
        assert_eq!(say(&index, Tense::WouldBe), (Tone::Odd, "make anew; sparse false".into()));
        assert_eq!(say(&index, Tense::MustBe), (Tone::Bad, "differs; sparse false".into()));
        assert_eq!(say(&fixed, Tense::Was), (Tone::Bad, "must be mended by hand; type: 3 cannot be changed".into()));
    }
}
