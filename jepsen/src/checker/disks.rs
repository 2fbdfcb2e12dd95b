//! What a process does when its disk fails.

use crate::edn::Edn;
use crate::history::{Event, History};
use crate::nemesis::{Fault, HEAL, SURVIVED};
use crate::verdict::Finding;

/// A failed sync says nothing of what is on the disk, so a voter that met one must not go on.
pub fn failed_syncs_end_the_process(history: &History) -> Finding {
    const PROPERTY: &str = "failed syncs end the process";
    let name = Fault::SyncError.to_string();
    let says = |event: &Event, field: &str| {
        let value = event.value.get(field).and_then(Edn::text);
        value.unwrap_or_default().to_owned()
    };
    let healed = history.events.iter().filter(|event| event.f == HEAL);
    let met = healed
        .filter(|event| says(event, "fault") == name && says(event, "outcome") == "installed");
    let (mut count, mut survived) = (0, None);
    for event in met {
        count += 1;
        let detail = says(event, "detail");
        if detail.ends_with(SURVIVED) {
            survived = Some(format!("event {}: {detail}", event.index));
        }
    }
    match (count, survived) {
        (_, Some(detail)) => Finding::invalid(PROPERTY, detail),
        (0, None) => Finding::unknown(PROPERTY, "no sync failed"),
        (count, None) => Finding::valid(PROPERTY, format!("{count} processes ended")),
    }
}
