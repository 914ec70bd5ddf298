//! A fixed pool of threads that share out the pieces of one job at a time, without allocating.
//!
//! Between the layers of a network the next job comes within microseconds, so a worker first spins
//! and only then sleeps.

#![allow(unsafe_code, reason = "a job borrows from its caller's stack; see `Pool::run`")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How often a worker looks for the next job before it sleeps: some ten microseconds.
const SPINS: usize = 4000;

/// Threads that work on one job at a time; the caller is one of them.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What a job does: `work(thread, piece)`.
type Work<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// A job whose borrows are hidden from the compiler: [`Pool::run`] outlives every use.
#[derive(Clone, Copy)]
struct Job {
    work: *const Work<'static>,
    pieces: usize,
}

// SAFETY: the pointer leads to a `Sync` function, and is followed only while `Pool::run` keeps
// it alive.
unsafe impl Send for Job {}

#[derive(Default)]
struct Shared {
    job: Mutex<Option<Job>>,
    wake: Condvar,
    /// Counts jobs; a worker that sees a new number takes part.
    generation: AtomicUsize,
    next_piece: AtomicUsize,
    /// Workers that have not finished the current job.
    busy: AtomicUsize,
    panicked: AtomicBool,
    stop: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of `threads`, the caller of [`Pool::run`] included; at least one.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut pool = Self { shared, workers: Vec::new() };
        for thread in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let name = format!("inference-{thread}");
            let worker = std::thread::Builder::new().name(name);
            pool.workers.push(worker.spawn(move || shared.serve(thread))?);
        }
        Ok(pool)
    }

    /// How many threads work, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Does `work(thread, piece)` once for every piece below `pieces`, shared out among the
    /// threads, and returns when all are done. Only one caller at a time may use a pool.
    ///
    /// # Panics
    /// When a piece panics.
    pub fn run(&mut self, pieces: usize, work: &Work<'_>) {
        if self.workers.is_empty() || pieces < 2 {
            (0..pieces).for_each(|piece| work(0, piece));
            return;
        }
        let work: *const Work<'_> = work;
        // SAFETY: only the lifetime changes. Workers follow the pointer only between here and
        // `wait`, which returns when no worker uses it any more.
        let work: *const Work<'static> = unsafe { std::mem::transmute(work) };
        let job = Job { work, pieces };
        self.shared.start(job, self.workers.len());
        let own = catch_unwind(AssertUnwindSafe(|| self.shared.take_part(0, job)));
        self.shared.wait();
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!self.shared.panicked.swap(false, Ordering::Relaxed), "an inference thread failed");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let job = self.shared.lock();
        self.shared.generation.fetch_add(1, Ordering::Release);
        drop(job);
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its panics, so there is nothing to learn from its end.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// A panicking holder leaves nothing half-written behind this lock.
    fn lock(&self) -> MutexGuard<'_, Option<Job>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, job: Job, workers: usize) {
        let mut slot = self.lock();
        *slot = Some(job);
        self.next_piece.store(0, Ordering::Relaxed);
        self.busy.store(workers, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Release);
        drop(slot);
        self.wake.notify_all();
    }

    /// Waits until no worker is busy.
    fn wait(&self) {
        let mut spins = 0;
        while self.busy.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// A worker's life.
    fn serve(&self, thread: usize) {
        let mut seen = 0;
        loop {
            let job = self.next_job(&mut seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if let Some(job) = job
                && catch_unwind(AssertUnwindSafe(|| self.take_part(thread, job))).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    fn next_job(&self, seen: &mut usize) -> Option<Job> {
        for _ in 0..SPINS {
            if self.generation.load(Ordering::Acquire) != *seen {
                break;
            }
            std::hint::spin_loop();
        }
        let mut slot = self.lock();
        while self.generation.load(Ordering::Acquire) == *seen {
            slot = self.wake.wait(slot).unwrap_or_else(PoisonError::into_inner);
        }
        *seen = self.generation.load(Ordering::Acquire);
        *slot
    }

    fn take_part(&self, thread: usize, job: Job) {
        // SAFETY: `Pool::run` keeps the function alive until every worker has left here.
        let work = unsafe { &*job.work };
        loop {
            let piece = self.next_piece.fetch_add(1, Ordering::Relaxed);
            if piece >= job.pieces {
                return;
            }
            work(thread, piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for threads in 1..5 {
            let mut pool = Pool::new(threads).expect("threads start");
            assert_eq!(pool.threads(), threads);
            for pieces in [0, 1, 2, 7, 100] {
                let done: Vec<_> = (0..pieces).map(|_| AtomicUsize::new(0)).collect();
                pool.run(pieces, &|thread, piece| {
                    assert!(thread < threads);
                    done[piece].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_sleeping_worker_wakes() {
        let mut pool = Pool::new(2).expect("threads start");
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            let helped = AtomicBool::new(false);
            pool.run(2, &|thread, _| {
                helped.fetch_or(thread == 1, Ordering::Relaxed);
                // Leaves the other piece to the worker.
                while !helped.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
            });
            assert!(helped.into_inner());
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(3).expect("threads start");
        for _ in 0..20 {
            let failing = AssertUnwindSafe(|| pool.run(6, &|_, piece| assert!(piece != 3)));
            assert!(catch_unwind(failing).is_err());
            let count = AtomicUsize::new(0);
            pool.run(6, &|_, _| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 6);
        }
    }
}
