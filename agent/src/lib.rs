//! mainstay-agent.
