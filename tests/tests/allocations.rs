//! Inference allocates nothing once it has run: a board that scans for months must not fragment.

#![allow(unsafe_code, reason = "an allocator that counts is a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use device::runtime::engine::{Activations, Engine, EngineOptions};
use models::bundle::Bundle;
use models::label::Class;
use models::preprocess::input_from_radiograph;
use tests::{phantom, zoo};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: by the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn inference_allocates_nothing_after_the_first_scan() {
    let input = input_from_radiograph(&phantom(Class::Scoliosis, 3));
    for dir in zoo() {
        let bundle = Bundle::load(&dir).expect("loads");
        for threads in [1, 2] {
            let options = EngineOptions { threads, ..EngineOptions::default() };
            let layers = bundle.head.hidden_layers();
            let engine = Engine::load(&bundle.model, layers, options).expect("loads");
            let mut activations = Activations::default();
            let mut runs = [0; 3];
            for count in &mut runs {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                engine.run_into(&input, &mut activations).expect("runs");
                *count = ALLOCATIONS.load(Ordering::Relaxed) - before;
            }
            assert!(runs[0] > 0, "the counter counts");
            assert_eq!(runs[1..], [0, 0], "{}, {threads} threads", dir.display());
        }
    }
}
