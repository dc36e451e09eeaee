//! DataFusion's rules, each of which first asks whether the statement is to go on.
//!
//! A rule goes through the whole plan, or is asked node by node; there are some sixty applications for one query, so
//! that a plan of thousands of nodes takes its time. What filters become when they are pushed down is bounded as well.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::Result;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::{PhysicalOptimizerContext, PhysicalOptimizerRule};
use datafusion::physical_plan::ExecutionPlan;

use crate::sql::bounds::check_in_plan;
use crate::sql::dependent;
use crate::sql::size::check_terms;

#[derive(Debug)]
pub struct Asking<T: ?Sized>(pub Arc<T>);

pub type Analyzing = Arc<dyn AnalyzerRule + Send + Sync>;
pub type Optimizing = Arc<dyn OptimizerRule + Send + Sync>;
pub type Physical = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

pub fn analyzing(rules: Vec<Analyzing>) -> Vec<Analyzing> {
    rules.into_iter().map(|rule| Arc::new(Asking(rule)) as Analyzing).collect()
}

pub fn optimizing(rules: Vec<Optimizing>) -> Vec<Optimizing> {
    rules.into_iter().map(|rule| Arc::new(Asking(rule)) as Optimizing).collect()
}

pub fn physical(rules: Vec<Physical>) -> Vec<Physical> {
    rules.into_iter().map(|rule| Arc::new(Asking(rule)) as Physical).collect()
}

impl AnalyzerRule for Asking<dyn AnalyzerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        check_in_plan()?;
        self.0.analyze(plan, config)
    }
}

impl OptimizerRule for Asking<dyn OptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }
    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        check_in_plan()?;
        // Here terms take the place of columns, however often these are named.
        if self.0.name() == "push_down_filter" {
            check_terms(&plan)?;
        }
        let plan = self.0.rewrite(plan, config)?;
        match self.0.name() {
            "decorrelate_lateral_join" => plan.transform_data(dependent::without_laterals_of_nothing),
            _ => Ok(plan),
        }
    }
}

impl PhysicalOptimizerRule for Asking<dyn PhysicalOptimizerRule + Send + Sync> {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        check_in_plan()?;
        self.0.optimize(plan, config)
    }
    fn optimize_with_context(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: &dyn PhysicalOptimizerContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        check_in_plan()?;
        self.0.optimize_with_context(plan, context)
    }
}
