"""From the rows of an update to its gradients: pass by pass, in one way for each kind of model."""
