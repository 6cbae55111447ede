//! Memberships as Rollouts say them, without the Rollouts being in the cluster: for checks of what follows from them.

use anyhow::{anyhow, ensure};
use sluice_controller::members::{Memberships, members};
use sluice_controller::source::{manifest, yaml};

/// What Rollouts in the namespace `own` say that name these members, each a namespace and a service account, for a fleet.
pub(crate) fn of(own: &str, fleets: &[(&str, &[(&str, &str)])]) -> anyhow::Result<Memberships> {
    let rollouts = fleets.iter().map(|(fleet, members)| {
        let member = |(namespace, account)| format!("{{namespace: {namespace}, serviceAccountName: {account}}}");
        let members: Vec<String> = members.iter().copied().map(member).collect();
        format!(
            "---\n{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {{name: {fleet}, namespace: {own}}}, \
             spec: {{fleet: {fleet}, members: [{}], dataPlane: {{listeners: [{{name: http, port: 80}}]}}}}}}\n",
            members.join(", ")
        )
    });
    let documents = yaml::documents(&rollouts.collect::<String>()).map_err(|error| anyhow!("{error:?}"))?;
    let read = manifest::read(&"members.yaml".into(), documents);
    ensure!(read.problems.is_empty(), "{:?}", read.problems);
    Ok(members(&read.objects.into_iter().collect(), own, None))
}
