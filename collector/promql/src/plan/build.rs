//! From the parser's tree to the typed plan. Everything that can be wrong with a query without
//! knowing any series is said here.

use std::sync::{Arc, Once};
use std::time::{Duration, UNIX_EPOCH};

use promql_parser::label::{Labels as Names, METRIC_NAME, MatchOp};
use promql_parser::parser::token::{self, TokenId};
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{
    AggregateExpr, AtModifier, BinModifier, BinaryExpr, Expr, Function, LabelModifier, MatrixSelector, Offset,
    SubqueryExpr, VectorMatchCardinality, VectorSelector, register_extra_functions,
};

use super::{
    Aggregation, At, Binary, Cardinality, Matrix, Op, ParseError, Plan, Query, Scalar, Selector, SetOp, Shift, Vector,
    call, guard,
};
use crate::labels::Grouping;
use crate::matcher::{Matcher, Test, whole};

/// The name before Prometheus 3 of `double_exponential_smoothing`, which the parser no longer knows.
static OLD_NAMES: Once = Once::new();

/// Reads a query.
///
/// # Errors
/// If it is none, or uses what is not supported.
pub fn parse(text: &str) -> Result<Query, ParseError> {
    guard::check(text)?;
    OLD_NAMES.call_once(|| {
        let arguments = vec![ValueType::Matrix, ValueType::Scalar, ValueType::Scalar];
        let old = Function::new("holt_winters", arguments, 0, ValueType::Vector, false);
        let known = register_extra_functions(vec![old]);
        debug_assert_eq!(known, Ok(()), "the parser knows holt_winters again");
    });
    let tree = promql_parser::parser::parse(text).map_err(ParseError)?;
    Ok(Query { root: plan(&tree)? })
}

/// Reads a series selector, such as the HTTP API takes as `match[]`.
///
/// # Errors
/// If it is none.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    match parse(text)?.root {
        Plan::Vector(Vector::Select(Selector { matchers, shift, .. }))
            if shift.at.is_none() && shift.offset_ms == 0 =>
        {
            Ok(matchers)
        }
        _ => refused(format!("{text} is no series selector, such as up{{host=\"a\"}}")),
    }
}

pub(super) fn refused<T>(why: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError(why.into()))
}

fn plan(tree: &Expr) -> Result<Plan, ParseError> {
    Ok(match tree {
        Expr::NumberLiteral(number) => Plan::Scalar(Scalar::Number(number.val)),
        Expr::StringLiteral(text) => Plan::Text(text.val.clone()),
        Expr::Paren(inner) => plan(&inner.expr)?,
        Expr::VectorSelector(series) => Plan::Vector(Vector::Select(selector(series)?)),
        Expr::MatrixSelector(series) => Plan::Matrix(matrix_selector(series)?),
        Expr::Subquery(inner) => Plan::Matrix(subquery(inner)?),
        Expr::Unary(inner) => match plan(&inner.expr)? {
            Plan::Scalar(Scalar::Number(number)) => Plan::Scalar(Scalar::Number(-number)),
            Plan::Scalar(of) => Plan::Scalar(Scalar::Negated(Box::new(of))),
            Plan::Vector(of) => Plan::Vector(Vector::Negated(Box::new(of))),
            other => return refused(format!("unary expression of {}", name_of(&other))),
        },
        Expr::Binary(of) => binary(of)?,
        Expr::Aggregate(of) => Plan::Vector(aggregate(of)?),
        Expr::Call(of) => call::plan(of)?,
        Expr::Extension(_) => return refused("an extension of the parser is not supported"),
    })
}

/// The type of an expression, in Prometheus' words.
fn name_of(plan: &Plan) -> &'static str {
    match plan {
        Plan::Scalar(_) => "scalar",
        Plan::Vector(_) => "instant vector",
        Plan::Matrix(_) => "range vector",
        Plan::Text(_) => "string",
    }
}

pub(super) fn vector(tree: &Expr, of: &str) -> Result<Vector, ParseError> {
    match plan(tree)? {
        Plan::Vector(vector) => Ok(vector),
        other => refused(format!("expected type instant vector in {of}, got {}", name_of(&other))),
    }
}

pub(super) fn scalar(tree: &Expr, of: &str) -> Result<Scalar, ParseError> {
    match plan(tree)? {
        Plan::Scalar(scalar) => Ok(scalar),
        other => refused(format!("expected type scalar in {of}, got {}", name_of(&other))),
    }
}

pub(super) fn matrix(tree: &Expr, of: &str) -> Result<Matrix, ParseError> {
    match plan(tree)? {
        Plan::Matrix(matrix) => Ok(matrix),
        other => refused(format!("expected type range vector in {of}, got {}", name_of(&other))),
    }
}

pub(super) fn text(tree: &Expr, of: &str) -> Result<String, ParseError> {
    match plan(tree)? {
        Plan::Text(text) => Ok(text),
        other => refused(format!("expected type string in {of}, got {}", name_of(&other))),
    }
}

pub(super) fn selector(series: &VectorSelector) -> Result<Selector, ParseError> {
    if !series.matchers.or_matchers.is_empty() {
        return refused("`or` between label matchers is not supported");
    }
    let mut matchers: Vec<Matcher> = series.name.iter().map(|name| Matcher::is(METRIC_NAME, name)).collect();
    for matcher in &series.matchers.matchers {
        let test = match matcher.op {
            MatchOp::Equal => Test::Is(matcher.value.clone()),
            MatchOp::NotEqual => Test::IsNot(matcher.value.clone()),
            MatchOp::Re(_) => Test::Matches(whole(&matcher.value).map_err(ParseError)?),
            MatchOp::NotRe(_) => Test::MatchesNot(whole(&matcher.value).map_err(ParseError)?),
        };
        matchers.push(Matcher { label: matcher.name.clone(), test });
    }
    if matchers.iter().all(|matcher| matcher.holds("")) {
        return refused("vector selector must contain at least one non-empty matcher");
    }
    Ok(Selector { matchers, shift: shift(series.at.as_ref(), series.offset.as_ref())?, only: None })
}

fn matrix_selector(series: &MatrixSelector) -> Result<Matrix, ParseError> {
    Ok(Matrix::Select { selector: selector(&series.vs)?, range_ms: positive(series.range)? })
}

fn subquery(of: &SubqueryExpr) -> Result<Matrix, ParseError> {
    Ok(Matrix::Subquery {
        of: Box::new(vector(&of.expr, "subquery")?),
        range_ms: positive(of.range)?,
        step_ms: of.step.map(positive).transpose()?,
        shift: shift(of.at.as_ref(), of.offset.as_ref())?,
    })
}

fn millis(duration: Duration) -> Result<i64, ParseError> {
    i64::try_from(duration.as_millis()).map_err(|_| ParseError("duration out of range".to_owned()))
}

fn positive(duration: Duration) -> Result<i64, ParseError> {
    match millis(duration)? {
        0 => refused("duration must be greater than 0"),
        ms => Ok(ms),
    }
}

fn shift(at: Option<&AtModifier>, offset: Option<&Offset>) -> Result<Shift, ParseError> {
    let at = match at {
        None => None,
        Some(AtModifier::Start) => Some(At::Start),
        Some(AtModifier::End) => Some(At::End),
        Some(AtModifier::At(time)) => Some(At::Time(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => millis(after)?,
            Err(before) => -millis(before.duration())?,
        })),
    };
    let offset_ms = match offset {
        None => 0,
        Some(Offset::Pos(duration)) => millis(*duration)?,
        Some(Offset::Neg(duration)) => -millis(*duration)?,
    };
    Ok(Shift { at, offset_ms })
}

fn names(names: &Names) -> Vec<Arc<str>> {
    names.labels.iter().map(|name| Arc::from(name.as_str())).collect()
}

fn grouping(modifier: Option<&LabelModifier>, default: Grouping) -> Grouping {
    match modifier {
        None => default,
        Some(LabelModifier::Include(of)) => Grouping::By(names(of)),
        Some(LabelModifier::Exclude(of)) => Grouping::Without(names(of)),
    }
}

fn operator(id: TokenId) -> Option<Op> {
    Some(match id {
        token::T_ADD => Op::Add,
        token::T_SUB => Op::Sub,
        token::T_MUL => Op::Mul,
        token::T_DIV => Op::Div,
        token::T_MOD => Op::Mod,
        token::T_POW => Op::Pow,
        token::T_ATAN2 => Op::Atan2,
        token::T_EQLC => Op::Equal,
        token::T_NEQ => Op::NotEqual,
        token::T_LSS => Op::Less,
        token::T_LTE => Op::LessOrEqual,
        token::T_GTR => Op::Greater,
        token::T_GTE => Op::GreaterOrEqual,
        _ => return None,
    })
}

fn binary(of: &BinaryExpr) -> Result<Plan, ParseError> {
    let default = BinModifier::default();
    let modifier = of.modifier.as_ref().unwrap_or(&default);
    if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
        return refused("fill, fill_left and fill_right are not supported");
    }
    let set = match of.op.id() {
        token::T_LAND => Some(SetOp::And),
        token::T_LOR => Some(SetOp::Or),
        token::T_LUNLESS => Some(SetOp::Unless),
        _ => None,
    };
    let on = grouping(modifier.matching.as_ref(), Grouping::Without(Vec::new()));
    let sides = (plan(&of.lhs)?, plan(&of.rhs)?);
    if let Some(op) = set {
        let (Plan::Vector(left), Plan::Vector(right)) = sides else {
            return refused(format!("set operator '{}' not allowed in binary scalar expression", of.op));
        };
        return Ok(Plan::Vector(Vector::Set { op, on, left: Box::new(left), right: Box::new(right) }));
    }
    let Some(op) = operator(of.op.id()) else { return refused(format!("operator '{}' is not supported", of.op)) };
    let is_bool = modifier.return_bool;
    let matched = modifier.matching.is_some();
    match sides {
        (Plan::Scalar(_) | Plan::Vector(_), Plan::Scalar(_)) | (Plan::Scalar(_), Plan::Vector(_)) if matched => {
            refused("vector matching only allowed between instant vectors")
        }
        (Plan::Scalar(_), Plan::Scalar(_)) if op.is_comparison() && !is_bool => {
            refused("comparisons between scalars must use BOOL modifier")
        }
        (Plan::Scalar(left), Plan::Scalar(right)) => {
            Ok(Plan::Scalar(Scalar::Binary { op, left: Box::new(left), right: Box::new(right) }))
        }
        (Plan::Vector(vector), Plan::Scalar(scalar)) => Ok(Plan::Vector(Vector::WithScalar {
            op,
            is_bool,
            vector: Box::new(vector),
            scalar,
            scalar_is_left: false,
        })),
        (Plan::Scalar(scalar), Plan::Vector(vector)) => {
            Ok(Plan::Vector(Vector::WithScalar { op, is_bool, vector: Box::new(vector), scalar, scalar_is_left: true }))
        }
        (Plan::Vector(left), Plan::Vector(right)) => {
            let cardinality = match &modifier.card {
                VectorMatchCardinality::ManyToOne(include) => Cardinality::ManyToOne(names(include)),
                VectorMatchCardinality::OneToMany(include) => Cardinality::OneToMany(names(include)),
                VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => Cardinality::OneToOne,
            };
            Ok(Plan::Vector(Vector::Binary(Box::new(Binary { op, is_bool, on, cardinality, left, right }))))
        }
        _ => refused("binary expression must contain only scalar and instant vector types"),
    }
}

fn aggregate(of: &AggregateExpr) -> Result<Vector, ParseError> {
    let name = of.op.to_string();
    let parameter = || match &of.param {
        Some(parameter) => Ok(&**parameter),
        None => refused(format!("{name} needs a parameter")),
    };
    let number = || scalar(parameter()?, "aggregation expression");
    let op = match of.op.id() {
        token::T_SUM => Aggregation::Sum,
        token::T_AVG => Aggregation::Avg,
        token::T_COUNT => Aggregation::Count,
        token::T_MIN => Aggregation::Min,
        token::T_MAX => Aggregation::Max,
        token::T_GROUP => Aggregation::Group,
        token::T_STDDEV => Aggregation::Stddev,
        token::T_STDVAR => Aggregation::Stdvar,
        token::T_TOPK => Aggregation::TopK(number()?),
        token::T_BOTTOMK => Aggregation::BottomK(number()?),
        token::T_QUANTILE => Aggregation::Quantile(number()?),
        token::T_COUNT_VALUES => {
            let label = text(parameter()?, "aggregation expression")?;
            if label.is_empty() {
                return refused("invalid label name \"\" in count_values");
            }
            Aggregation::CountValues(label)
        }
        _ => return refused(format!("the aggregation {name} is not supported")),
    };
    let by = grouping(of.modifier.as_ref(), Grouping::By(Vec::new()));
    let mut of = vector(&of.expr, "aggregation expression")?;
    match (&op, &by) {
        // They say of whom a value is.
        (Aggregation::TopK(_) | Aggregation::BottomK(_), _) | (_, Grouping::Without(_)) => {}
        (_, Grouping::By(names)) => of.look_only_at(names),
    }
    Ok(Vector::Aggregate { op, by, of: Box::new(of) })
}
