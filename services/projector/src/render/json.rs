//! An event in CloudEvents' JSON format.

use drover_bus::Recorded;
use drover_schemas::{envelope::CloudEvent, subjects::Aggregate};
use serde::Serialize;
use serde_json::{Value, json as object};

/// The event in CloudEvents' JSON format 1.0: its attributes, and beside them `campaign` and
/// `sequence`, the event's place in its stream (a string, as the format's sequence extension has
/// it). `data` holds the message's fields under their names in `events.proto`; an event that this
/// version cannot decode keeps its bytes in `data_base64`.
pub fn json(recorded: &Recorded) -> Value {
    let Recorded { campaign, sequence, event, .. } = recorded;
    let aggregate = recorded.aggregate();
    let subject = match aggregate {
        Aggregate::Campaign => "campaign".to_owned(),
        Aggregate::Migration(id) => id.to_string(),
    };
    let mut value = object!({
        "specversion": "1.0",
        "id": event.id,
        "type": event.kind,
        "source": event.source,
        "subject": subject,
        "time": event.time_text(),
        "campaign": campaign,
        "sequence": sequence.to_string(),
    });
    let (content_type, member, data) = match data(aggregate, event) {
        Some(data) => ("application/json", "data", data),
        None => (drover_schemas::envelope::CONTENT_TYPE, "data_base64", base64(&event.data).into()),
    };
    value["datacontenttype"] = content_type.into();
    value[member] = data;
    value
}

fn data(aggregate: Aggregate, event: &CloudEvent) -> Option<Value> {
    match aggregate {
        Aggregate::Campaign => fields(&event.decode_campaign().ok()?),
        Aggregate::Migration(_) => fields(&event.decode_migration().ok()?),
    }
}

/// The fields of the message; its name is in the event's type.
fn fields(event: &impl Serialize) -> Option<Value> {
    match serde_json::to_value(event).ok()? {
        Value::Object(named) => named.into_iter().next().map(|(_, fields)| fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            None
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}
