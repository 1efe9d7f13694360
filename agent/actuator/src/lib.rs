//! mainstay-actuator.
