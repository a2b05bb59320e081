//! rtkit: asks the desktop's scheduling service for real-time priority where the system gives none by itself.

use std::time::Duration;

use zbus::Connection;

use crate::realtime::{Policy, RealtimeThread};

/// Priority asked for: rtkit grants 20 at most unless told otherwise.
const PRIORITY: u32 = 20;
/// A bus that does not answer must not keep the daemon from starting.
const TIMEOUT: Duration = Duration::from_secs(2);

#[zbus::proxy(
    interface = "org.freedesktop.RealtimeKit1",
    default_service = "org.freedesktop.RealtimeKit1",
    default_path = "/org/freedesktop/RealtimeKit1"
)]
trait RealtimeKit {
    fn make_thread_realtime(&self, thread: u64, priority: u32) -> zbus::Result<()>;

    #[zbus(property, name = "RTTimeUSecMax")]
    fn rt_time_usec_max(&self) -> zbus::Result<i64>;
    #[zbus(property)]
    fn max_realtime_priority(&self) -> zbus::Result<i32>;
}

/// Asks rtkit for the audio thread, unless it has real-time priority already. What came of it stands in
/// [`RealtimeThread::scheduling`].
pub async fn ask(thread: &mut RealtimeThread) {
    if thread.scheduling().policy != Policy::Other {
        return;
    }
    let answer = match tokio::time::timeout(TIMEOUT, request(thread)).await {
        Ok(answer) => answer,
        Err(_) => Err("no answer".to_owned()),
    };
    thread.rtkit_answered(answer);
}

async fn request(thread: &RealtimeThread) -> Result<(), String> {
    let words = |error: zbus::Error| error.to_string();
    let connection = Connection::system().await.map_err(|_| "there is no system bus".to_owned())?;
    let rtkit = RealtimeKitProxy::new(&connection).await.map_err(words)?;
    let longest = rtkit.rt_time_usec_max().await.map_err(words)?;
    let highest = rtkit.max_realtime_priority().await.map_err(words)?;
    thread
        .prepare_for_rtkit(u64::try_from(longest).unwrap_or(0))
        .map_err(|error| format!("cannot bound the thread's running time: {error}"))?;
    let priority = PRIORITY.min(u32::try_from(highest).unwrap_or(0));
    let id = u64::try_from(thread.thread_id()).unwrap_or(0);
    rtkit.make_thread_realtime(id, priority).await.map_err(words)
}
