#![no_main]

use std::cell::OnceCell;

use mainstay_fuzz::query;
use mainstay_promql::Memory;

thread_local! {
    static SOURCE: OnceCell<Memory> = const { OnceCell::new() };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    SOURCE.with(|source| query::run(source.get_or_init(query::source), bytes));
});
