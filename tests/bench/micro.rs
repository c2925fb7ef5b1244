//! Micro-benchmarks of the hot paths, one module a subject: `cargo bench --bench micro -- --quick`.
//!
//! Wall-clock time of one thread; where bytes are moved, throughput is printed too. A filter runs
//! some of them: `cargo bench --bench micro -- seal`.

mod catalog;
mod crypto;
mod files;
mod store;

use criterion::Criterion;

fn main() {
    if catalog::is_reader() {
        return;
    }
    catalog::run();
    let mut criterion = Criterion::default().configure_from_args();
    crypto::all(&mut criterion);
    files::all(&mut criterion);
    store::all(&mut criterion);
    criterion.final_summary();
}
