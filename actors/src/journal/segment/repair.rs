//! What an operator does about damage: see all of it, and put segments aside.
//! Never overwrites and never deletes.

