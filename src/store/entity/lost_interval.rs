//! Intervals of which commits were lost, as rows: one for each restore or failover that lost some.

use sea_orm::entity::prelude::*;

/// A row of `lost_interval`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "lost_interval")]
pub struct Model {
    /// Time from which commits may be missing.
    #[sea_orm(primary_key, auto_increment = false)]
    pub since: i64,
    /// Time at which an operator said so; commits from then on are there.
    pub until: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
