//! `kubectl sluice routes`: the ProxyRoutes of a namespace with what became of them, and why where something is wrong.

use kube::api::DynamicObject;
use serde_json::Value;
use sluice_crds::DEFAULT_FLEET;
use sluice_model::Name;

use crate::cluster::objects::{self, Kind, text};
use crate::cluster::{Cluster, ConnectionArgs, controller_namespace};
use crate::failure::{Exit, Failure};
use crate::output::{self, TableFormat};
use crate::table::Table;
use crate::waiting_runtime;

/// Arguments of `kubectl sluice routes`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The route; without it all of the namespace.
    pub name: Option<String>,
    /// Its namespace [default: that of the kubeconfig's context].
    #[arg(short, long, help_heading = "Kubernetes")]
    pub namespace: Option<Name>,
    /// The routes of all namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "name"], help_heading = "Kubernetes")]
    pub all_namespaces: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub connection: ConnectionArgs,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = TableFormat::Table)]
    pub output: TableFormat,
}

/// Which columns there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Columns {
    OneNamespace,
    AllNamespaces,
}

/// Runs `kubectl sluice routes`.
///
/// # Errors
/// When the routes cannot be read.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    waiting_runtime()?.block_on(async {
        let cluster = Cluster::connect(&args.connection).await?;
        let namespace = args.namespace.as_ref().map_or(cluster.namespace(), Name::as_str);
        let (routes, columns) = match (&args.name, args.all_namespaces) {
            (Some(name), _) => (
                vec![cluster.get(Kind::ProxyRoute, namespace, name).await?],
                Columns::OneNamespace,
            ),
            (None, true) => (
                cluster.list(Kind::ProxyRoute, None).await?.items,
                Columns::AllNamespaces,
            ),
            (None, false) => (
                cluster.list(Kind::ProxyRoute, Some(namespace)).await?.items,
                Columns::OneNamespace,
            ),
        };
        // In another namespace than the usual one the controller is not looked for.
        if !routes.is_empty()
            && let Ok(system) = controller_namespace(None)
            && let Some(nobody) = cluster.nobody_leads(&system).await
        {
            output::remark(&nobody);
        }
        output::print(&match (args.output, routes.as_slice(), columns) {
            (TableFormat::Json, [one], Columns::OneNamespace) if args.name.is_some() => {
                output::json(&objects::shown(one))?
            }
            (TableFormat::Yaml, [one], Columns::OneNamespace) if args.name.is_some() => {
                output::yaml(&objects::shown(one))?
            }
            (TableFormat::Json, routes, _) => output::json(&objects::list(routes))?,
            (TableFormat::Yaml, routes, _) => output::yaml(&objects::list(routes))?,
            (TableFormat::Table, [], Columns::AllNamespaces) => "There is no ProxyRoute.\n".to_owned(),
            (TableFormat::Table, [], Columns::OneNamespace) => {
                format!("There is no ProxyRoute in namespace {namespace}; -A shows those of all.\n")
            }
            (TableFormat::Table, routes, columns) => table(routes, columns),
        });
        Ok(Exit::Done)
    })
}

/// The table, and under it what is wrong, in sentences.
fn table(routes: &[DynamicObject], columns: Columns) -> String {
    let heads = ["NAME", "FLEET", "HOSTS", "ACCEPTED", "PROGRAMMED", "REVISION", "REASON"];
    let mut table = match columns {
        Columns::OneNamespace => Table::new(&heads),
        Columns::AllNamespaces => Table::new(&[&["NAMESPACE"][..], &heads].concat()),
    };
    let mut sentences = String::new();
    for route in routes {
        let (namespace, name) = (namespace_of(route), route.metadata.name.clone().unwrap_or_default());
        let wrong = wrong(route);
        let cells = [
            name.clone(),
            fleet(route).to_owned(),
            hosts(route),
            condition(route, "Accepted", "status").to_owned(),
            programmed(route).to_owned(),
            text(route, "/status/liveIn").to_owned(),
            wrong.map(|(reason, _)| reason.to_owned()).unwrap_or_default(),
        ];
        match columns {
            Columns::OneNamespace => table.row(cells),
            Columns::AllNamespaces => table.row([namespace.to_owned()].into_iter().chain(cells)),
        }
        if let Some((_, message)) = wrong.filter(|(_, message)| !message.is_empty()) {
            sentences.push_str(&format!("\n{namespace}/{name}: {message}\n"));
        }
    }
    table.render() + &sentences
}

fn namespace_of(route: &DynamicObject) -> &str {
    route.metadata.namespace.as_deref().unwrap_or_default()
}

fn fleet(route: &DynamicObject) -> &str {
    match text(route, "/spec/fleet") {
        "" => DEFAULT_FLEET,
        fleet => fleet,
    }
}

/// Its hosts; `*` is every host, `~` before one that is a regular expression.
fn hosts(route: &DynamicObject) -> String {
    let list = |field: &str, mark: &str| -> Vec<String> {
        let hosts = route.data.pointer(field).and_then(Value::as_array);
        let texts = hosts.into_iter().flatten().filter_map(Value::as_str);
        texts.map(|host| format!("{mark}{host}")).collect()
    };
    let mut hosts = list("/spec/hostnames", "");
    hosts.extend(list("/spec/hostnameRegex", "~"));
    match hosts.as_slice() {
        [] => "*".to_owned(),
        [one] => one.clone(),
        [first, second] => format!("{first},{second}"),
        [first, second, rest @ ..] => format!("{first},{second} and {} more", rest.len()),
    }
}

fn condition<'a>(route: &'a DynamicObject, kind: &str, field: &str) -> &'a str {
    let condition = objects::condition(route, kind);
    condition
        .and_then(|condition| condition.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn programmed(route: &DynamicObject) -> &str {
    match text(route, "/status/programmed") {
        "" => condition(route, "Programmed", "status"),
        programmed => programmed,
    }
}

/// The first thing that is not as it should be: its reason, and the sentence about it.
fn wrong(route: &DynamicObject) -> Option<(&str, &str)> {
    let kinds = ["Accepted", "ResolvedRefs", "Programmed"];
    let kind = kinds
        .into_iter()
        .find(|kind| condition(route, kind, "status") == "False")?;
    Some((condition(route, kind, "reason"), condition(route, kind, "message")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(name: &str, spec: &Value, status: &Value) -> DynamicObject {
        let metadata = json!({"name": name, "namespace": "shop"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap()
    }

    #[test]
    fn a_table_with_what_is_wrong_under_it() {
        let fine = json!({"liveIn": "42-c01d", "programmed": "True", "conditions": [
            {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""},
            {"type": "Programmed", "status": "True", "reason": "Programmed", "message": ""}]});
        let held = json!({"programmed": "RolledBack", "conditions": [
            {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""},
            {"type": "Programmed", "status": "False", "reason": "RolledBack", "message": "ErrorRate 38% against 0.1%"}]});
        let routes = [
            route(
                "shop",
                &json!({"fleet": "edge", "hostnames": ["a.example.com", "b.example.com", "c.example.com"]}),
                &fine,
            ),
            route("cart", &json!({}), &held),
            route("new", &json!({}), &Value::Null),
        ];
        let expected = "\
NAME   FLEET     HOSTS                                  ACCEPTED   PROGRAMMED   REVISION   REASON
shop   edge      a.example.com,b.example.com and 1 more   True       True         42-c01d    -
cart   default   *                                      True       RolledBack   -          RolledBack
new    default   *                                      -          -            -          -

shop/cart: ErrorRate 38% against 0.1%
";
        let squeeze = |text: &str| {
            text.split(' ')
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(squeeze(&table(&routes, Columns::OneNamespace)), squeeze(expected));
        let all = table(&routes, Columns::AllNamespaces);
        assert!(all.starts_with("NAMESPACE   NAME"), "{all}");
    }
}
