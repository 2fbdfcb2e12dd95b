//! Ctrl-C and requests to terminate, for commands that have something to finish or to put away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};

/// A channel that gets a message for every Ctrl-C or request to terminate.
///
/// # Errors
/// The operating system gives no signals or no thread.
pub fn interrupts() -> anyhow::Result<Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, receiver) = sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _in = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    // Full means that one is waiting to be seen already.
                    if let Err(TrySendError::Disconnected(())) = sender.try_send(()) {
                        return;
                    }
                }
            });
        })?;
    Ok(receiver)
}

/// A flag that is set by the first Ctrl-C or request to terminate; `say` is called then.
///
/// # Errors
/// As [`interrupts`].
pub fn stop_flag(say: impl FnOnce() + Send + 'static) -> anyhow::Result<Arc<AtomicBool>> {
    let receiver = interrupts()?;
    let flag = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&flag);
    std::thread::Builder::new()
        .name("interrupts".to_owned())
        .spawn(move || {
            if receiver.recv().is_ok() {
                say();
                shared.store(true, Ordering::Relaxed);
                // The channel stays open, or the next signal would end the thread that takes it.
                while receiver.recv().is_ok() {}
            }
        })?;
    Ok(flag)
}
