//! One list of cases, run for every lane and storage. None is switched off: where a lane promises less, the table in
//! `stage.rs` says so, and the case tests exactly that.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cord;
mod parts;
mod server;
mod stage;

/// The list of cases. Each becomes one test per variant, so that a failing one is named.
macro_rules! conformance {
    ($($group:ident { $($case:ident),* $(,)? })*) => {
        $(mod $group;)*
        variant! { turbo Turbo $($group { $($case)* })* }
        variant! { flush Flush $($group { $($case)* })* }
        variant! { os Os $($group { $($case)* })* }
        variant! { sim Sim $($group { $($case)* })* }
        variant! { paced Paced $($group { $($case)* })* }
        variant! { stream Stream $($group { $($case)* })* }
        variant! { jetstream JetStream $($group { $($case)* })* }
    };
}

macro_rules! variant {
    ($module:ident $variant:ident $($group:ident { $($case:ident)* })*) => {
        mod $module {
            $(mod $group {
                $(#[test]
                fn $case() {
                    crate::stage::run(crate::stage::Variant::$variant, crate::$group::$case);
                })*
            })*
        }
    };
}

conformance! {
    flow {
        order,
        fan_out,
        taps,
        fan_in,
        large_messages,
        too_large_at_the_door,
        too_large_inside,
        emit_max,
        emit_bytes_max,
        hops,
        memory_window,
        memory_window_behind_an_effect_that_stays,
    }
    doors {
        capacity,
        overshoot,
        slow_consumer,
        unflushed,
        unflushed_bytes,
        unwired,
        each_its_own,
        replayed,
        draining,
    }
    failing {
        redelivery,
        dead_letter,
        reject,
        poison,
        poison_with_defaults,
        over_intensity,
        over_intensity_stops,
        one_partition,
        other_wires_go_on,
        letters_are_bounded,
        careful_start,
    }
    restarts {
        gear,
        wire,
        node,
        kill,
        kill_and_stop,
        power,
        identity,
        identity_when_handled_again,
        state,
        state_of_partitions,
        partitions_side_by_side,
        timers,
        timers_over_a_restart,
        timers_behind_a_closed_door,
        retention,
    }
    effects {
        ends,
        unknown_without_a_wire,
        maybe_sent_after_a_crash,
        maybe_sent_after_kill,
        maybe_sent_after_power,
        link_down,
        expired,
        return_address,
        receipts,
        durable,
        endpoint_state,
        endpoint_state_over_crashes,
    }
    links {
        through_gears,
        opening,
        flapping,
    }
    loops {
        capacity_of_one,
        capacity_of_three,
    }
    keeping {
        dead_letters,
        letters_sent_again,
        letters_chosen,
        maybe_sent_letters,
        orphans,
        second_process,
        segments,
        segment_age,
        disk_full,
        watermark,
        failed_flush,
        drain,
        durable_state,
    }
}
