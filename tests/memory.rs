//! Bytes that the model takes: counted at the allocator, in a process that does nothing else.
//!
//! Must not know: how the model keeps its mapping. Invariant: one test, since it counts what the whole process allocates.
//!
//! A file is filled grain by grain at random, as much of a 500 GB disk as a debug build does in a few seconds. What that takes
//! for each grain holds for the whole disk: addresses have the same number of bytes. `cargo bench --bench model` fills all of it.

#![expect(clippy::cast_precision_loss, reason = "bytes a grain are a rounded figure")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use stunfs::internal::model::{Access, FileKey, Model, ModelConfig, ModelOp, Placement};
use stunfs::internal::time::SimTime;
use stunfs::internal::units::{ByteRange, Bytes, GrainSize};

/// What malloc adds to each allocation at most, on average less.
const OVERHEAD: usize = 16;
const FILE: FileKey = FileKey { dev: 1, ino: 1 };

static IN_USE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() + OVERHEAD, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() + OVERHEAD, Ordering::Relaxed);
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes for each grain: a file filled at random, then every second grain punched out.
fn bytes_per_grain(placement: Placement, grain: Bytes, grains: u64) -> (f64, f64) {
    let mut order: Vec<u64> = (0..grains).collect();
    order.shuffle(&mut StdRng::seed_from_u64(1));
    let before = IN_USE.load(Ordering::Relaxed);
    let per_grain = || (IN_USE.load(Ordering::Relaxed) - before) as f64 / grains as f64;
    let config = ModelConfig {
        placement,
        grain: GrainSize::new(grain).expect("a grain size"),
        armed: false,
        ..ModelConfig::default()
    };
    let mut model = Model::new(config.check().expect("a sound configuration"));
    let range = |n: u64| ByteRange::at(n * grain.0, grain.0);
    for n in &order {
        model.submit(SimTime::ZERO, ModelOp { access: Access::Write(FILE, range(*n)), selected: true });
    }
    assert_eq!(model.snapshot(SimTime::ZERO).provisioned, grains);
    let full = per_grain();
    for n in (0..grains).step_by(2) {
        model.free(SimTime::ZERO, FILE, range(n));
    }
    model.take_notices();
    (full, per_grain())
}

#[test]
fn a_disk_of_500_gb_takes_10_mb_with_grains_of_1_mib_and_50_mb_with_64_kib() {
    for placement in [Placement::Packed, Placement::Direct] {
        for (grain, limit_mb) in [(Bytes::mib(1), 10.0), (Bytes::kib(64), 50.0)] {
            let (full, punched) = bytes_per_grain(placement, grain, 200_000);
            let mb = |each: f64| each * 500e9 / grain.0 as f64 / 1e6;
            println!("{placement:?}, {grain}: {full:.2} bytes a grain, {punched:.2} when every second one is free");
            assert!(mb(full) < limit_mb, "{placement:?}, {grain}: {:.1} MB for 500 GB", mb(full));
            assert!(mb(punched) < limit_mb, "{placement:?}, {grain}, half of it punched: {:.1} MB", mb(punched));
        }
    }
}
