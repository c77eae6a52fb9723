//! What alarms are about.

names! {
    /// What an alarm is about.
    pub enum AlarmKind {
        /// Too many denials at one portal.
        WrongTries,
        /// A replaced, cancelled or lost card was presented.
        DeadCard,
        /// One card in two places.
        Clone,
        /// A door opened without a release.
        ForcedOpen,
        /// A door stays open.
        HeldOpen,
        /// A device was opened.
        Tamper,
        /// Fire input.
        Fire,
        /// A portal does not answer.
        PortalOffline,
        /// Power is drawn and no permitted card is there.
        PowerWithoutCard,
        /// A relay that had to go off is not confirmed off.
        UnconfirmedRevocation,
        /// The store is damaged, full, failing or slow.
        Store,
        /// The clock cannot be trusted.
        Clock,
        /// Something is configured insecurely.
        Insecure,
        /// The list is incomplete or in doubt.
        List,
        /// A portal sends messages that cannot be read.
        PortalMalformed,
        /// A card was presented that its holder presents under duress.
        Duress,
        /// A power box tripped: too much load, or one that the rules forbid.
        PowerTrip,
    }
}
