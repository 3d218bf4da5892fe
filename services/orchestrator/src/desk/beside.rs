//! What hears the bus beside the desk, and brings it there.

use drover_bus::Bus;
use drover_schemas::{ServerName, subjects, v1::HostLoad};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::NAME;

/// Questions that wait for the desk.
pub(super) const QUESTIONS_MAX: usize = 16;
/// What servers said that waits for the desk.
pub(super) const LOADS_MAX: usize = 1_024;

/// Somebody asks for the status.
type Question = oneshot::Sender<Vec<u8>>;

/// Answers requests for this instance's status, with the desk's word.
pub(super) async fn answer(bus: Bus, ask: mpsc::Sender<Question>, shutdown: CancellationToken) {
    let subject = subjects::control(NAME);
    let served = bus.serve(&subject, shutdown, |_| {
        let ask = ask.clone();
        async move {
            let (question, answer) = oneshot::channel();
            // A desk that is closed answers nothing.
            let _ = ask.send(question).await;
            answer.await.unwrap_or_default().into()
        }
    });
    if let Err(error) = served.await {
        tracing::error!(%error, "requests are not answered");
    }
}

/// Brings what servers say that they are under to the desk.
pub(super) async fn listen(
    bus: Bus,
    say: mpsc::Sender<(ServerName, HostLoad)>,
    shutdown: CancellationToken,
) {
    let hear = |host, load| {
        // Where the desk is busy, the next word comes in a few seconds.
        let _ = say.try_send((host, load));
    };
    if let Err(error) = bus.loads(shutdown, hear).await {
        tracing::error!(%error, "what the servers are under is not heard");
    }
}
