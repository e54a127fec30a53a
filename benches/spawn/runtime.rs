//! How long a start keeps tokio from other tasks.

/// Section (l): the time in the polls of a start, to the handle, and to the end; and of the drop of what runs.
#[cfg(feature = "tokio")]
pub(crate) fn blocked(rounds: usize) {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::time::{Duration, Instant};

    use crate::table::{self, Times, micros};

    /// Drives a future, and tells how long its longest poll took.
    async fn longest<T>(future: impl Future<Output = T>) -> (T, Duration) {
        let (mut future, mut most) = (pin!(future), Duration::ZERO);
        let output = poll_fn(|context| {
            let before = Instant::now();
            let poll = future.as_mut().poll(context);
            most = most.max(before.elapsed());
            poll
        });
        let output = output.await;
        (output, most)
    }

    println!("\n(l) tokio: the longest time in one poll, {rounds} rounds: µs");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.expect("a runtime");
    let prepared = stockade::Sandbox::new().prepare().expect("a sandbox");
    let mut all =
        ["spawn_async", "wait", "drop of one that runs"].map(|name| (name, Times::default()));
    runtime.block_on(async {
        for _ in 0..rounds {
            let (child, start) = longest(prepared.command("true").spawn_async()).await;
            let mut child = child.expect("a sandbox");
            let (status, wait) = longest(child.wait()).await;
            assert!(status.expect("an end").outcome.is_success());
            let running = prepared.command("sleep").arg("1000").spawn_async().await;
            let before = Instant::now();
            drop(running.expect("a sandbox"));
            for ((_, times), time) in all.iter_mut().zip([start, wait, before.elapsed()]) {
                times.add(vec![time]);
            }
        }
    });
    let row = |(name, times): &(&str, Times)| {
        let columns = [0.5, 0.99, 1.0].map(|share| micros(times.at(share)));
        std::iter::once((*name).to_owned()).chain(columns).collect()
    };
    let rows: Vec<Vec<_>> = all.iter().map(row).collect();
    table::print(&["", "median", "p99", "most"], &rows);
}

#[cfg(not(feature = "tokio"))]
pub(crate) fn blocked(_: usize) {
    println!("\n(l) tokio: not measured without `--features tokio`");
}
