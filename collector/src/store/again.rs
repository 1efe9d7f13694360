//! Reading what may be asked for again: what is kept ([`Warm`](super::warm::Warm)) is not read, and what is read is kept.

use std::sync::Arc;

use mainstay_fleet::block::Which;

use super::StoreError;
use super::kept::{Blocks, Gathered};
use super::keys::PieceKey;
use super::piece::{Body, HeadKey, Piece, Place, overlaps};
use super::read::{Reader, Take};
use super::schema::Schema;

/// Names what will be asked for of the series of a schema, in [`Take`].
pub type Ask<'a> = dyn FnMut(&Arc<Schema>, &mut Vec<(usize, Which)>) + 'a;

impl<'v> Reader<'v> {
    /// Hands what a host has over as [`Self::host`] does, but for what is rolled up: what it reads is kept for the next
    /// question, and what is kept is not read. `ask` says what `take` will ask for; pieces may reach beyond the span.
    ///
    /// # Errors
    /// As [`Self::host`].
    pub fn host_again(
        &mut self,
        host: u32,
        (from_ms, to_ms): (i64, i64),
        ask: &mut Ask<'_>,
        take: &mut Take<'_, 'v>,
    ) -> Result<(), StoreError> {
        if self.view.has_old {
            return self.host(host, None, (from_ms, to_ms), take);
        }
        let span = (from_ms.max(0), to_ms.max(0));
        for hour in self.view.hours(span.0, span.1) {
            if !self.kept_hour(host, hour, span, ask, take)? {
                let (mut blocks, damaged) = (Blocks::default(), self.seen.count());
                self.hour(host, hour, span, Some(&mut blocks), take)?;
                if self.seen.count() == damaged {
                    self.view.store.warm.keep_hour(host, hour, blocks, self.view.written);
                }
            }
        }
        if !self.kept_rows(host, ask, take)? {
            let (mut gathered, damaged) = (Gathered::default(), self.seen.count());
            self.open_rows(host, span, Some(&mut gathered), take)?;
            if self.seen.count() == damaged {
                self.view.store.warm.keep_rows(host, gathered, self.view.written);
            }
        }
        Ok(())
    }

    /// Hands over the blocks of an hour if all that is asked for of them is kept; says whether it is.
    fn kept_hour(
        &mut self,
        host: u32,
        hour: u32,
        span: (i64, i64),
        ask: &mut Ask<'_>,
        take: &mut Take<'_, 'v>,
    ) -> Result<bool, StoreError> {
        let Some(kept) = self.view.store.warm.hour(host, hour, self.view.written) else { return Ok(false) };
        let of_span = || kept.blocks.iter().filter(|block| overlaps(hour, block.slot, span));
        for block in of_span() {
            self.asked.clear();
            ask(&block.schema, &mut self.asked);
            if !self.asked.iter().all(|asked| block.columns.get(*asked).is_some()) {
                return Ok(false);
            }
        }
        for block in of_span() {
            let (slot, sibling) = (block.slot, block.sibling);
            let key = HeadKey::Piece(PieceKey { hour, piece: PieceKey::HEAD, host, slot, sibling });
            let (times, windows) = &mut self.room;
            let rows = block.times.within(span);
            block.times.rows(rows.clone(), times);
            block.windows.rows(rows.clone(), windows);
            self.seen.read.kept += 1;
            take(&mut Piece {
                schema: &block.schema,
                tier: None,
                times,
                windows,
                body: Body::Kept(block, rows),
                place: Place::Sealed(&key),
                seen: &mut self.seen,
                is_damaged: false,
            })?;
        }
        Ok(true)
    }

    /// Hands over the open rows of a host if all that is asked for of them is kept; says whether it is.
    fn kept_rows(&mut self, host: u32, ask: &mut Ask<'_>, take: &mut Take<'_, 'v>) -> Result<bool, StoreError> {
        let Some(rows) = self.view.store.warm.rows(host, self.view.written) else { return Ok(false) };
        let Some(schema) = &rows.schema else { return Ok(true) };
        self.asked.clear();
        ask(schema, &mut self.asked);
        if !rows.have(&self.asked) {
            return Ok(false);
        }
        self.seen.read.kept += 1;
        take(&mut Piece {
            schema,
            tier: None,
            times: &rows.times,
            windows: &rows.windows,
            body: Body::Rows(&rows),
            place: Place::Rows,
            seen: &mut self.seen,
            is_damaged: false,
        })?;
        Ok(true)
    }
}
