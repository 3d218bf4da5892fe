//! Views and events as text for a terminal, and events as JSON: pure functions.
//!
//! Whatever a customer or a server may have named goes through [`printable`]: a name cannot move
//! the cursor, change colours, or turn the direction of what stands beside it.

mod event;
mod json;
mod text;
mod view;

pub use event::{audit, event};
pub use json::json;
pub use text::{duration, printable, seconds, time};
pub use view::{failures, status};
