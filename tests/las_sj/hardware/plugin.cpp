// Neurons and synapses of this package as units of SANA-FE: proof that a chip with them computes the converted model.
//
// A message of SANA-FE has no payload. A soma therefore writes what it emits into a table, by the number of its neuron,
// from which the synapses of that neuron read it. All neurons of a step are updated before its messages are delivered.

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "pipeline.hpp"

namespace
{
using sanafe::ModelAttribute;
using sanafe::PipelineResult;
using Names = std::set<std::string>;

struct Payload
{
    double emitted{0.0}; // in this step
    double total{0.0};   // in this window, this step included
};

std::vector<Payload> payloads;

Payload &payload_of(const size_t neuron)
{
    if (payloads.size() <= neuron)
    {
        payloads.resize(neuron + 1);
    }
    return payloads[neuron];
}

// One neuron with thresholds θ_normal and θ_outlier, which replays a train or codes the sum of the last window's input.
struct OatNeuron
{
    size_t number{0};
    int time_steps{1};
    int levels{1};
    double theta_normal{1.0};
    double theta_outlier{1.0};
    double bias{0.0};
    double scale{1.0}; // of the potential, which comes as two parts: Python's numbers arrive in single precision
    double scale_rest{0.0};
    std::vector<int> train; // signed levels n + j, 1000 further from 0 where the outlier sub-neuron fires
    double input{0.0};
    double left{0.0}; // of the membrane potential, in units of θ(t)/n
    double unit{1.0}; // θ(1)/n
    int level{0};

    void begin_window()
    {
        const double potential = (input + bias) * (scale + scale_rest);
        input = 0.0;
        unit = unit_of(std::fabs(potential) > theta_normal);
        left = potential / unit;
    }

    [[nodiscard]] double unit_of(const bool is_outlier) const
    {
        return (is_outlier ? theta_outlier : theta_normal) * (0.5 / levels);
    }

    // The code with "nearest" rounding, at step t = 0 … T − 1.
    void fire(const int t)
    {
        const bool is_last = t == time_steps - 1;
        const double size = std::fabs(left);
        double spike = 0.0;
        if (size >= (is_last ? levels / 2.0 : levels - 0.25))
        {
            spike = std::nearbyint(is_last ? std::fmax(size, levels) : size);
            spike = std::fmin(spike, t == 0 ? 2 * levels : 2 * levels - 1);
        }
        level = static_cast<int>(std::copysign(spike, left));
        left = (left - level) * 2;
    }

    void replay(const size_t step)
    {
        const int code = step < train.size() ? train[step] : 0;
        const bool is_outlier = std::abs(code) >= 1000;
        level = is_outlier ? code - (code > 0 ? 1000 : -1000) : code;
        unit = unit_of(is_outlier);
    }
};

class OatSoma : public sanafe::SomaUnit
{
public:
    OatSoma()
    {
        register_attributes(Names{"number", "time_steps", "levels", "theta_normal", "theta_outlier", "bias", "scale",
            "scale_rest", "train"});
    }

    void set_attribute_hw(const std::string & /*name*/, const ModelAttribute & /*value*/) override {}
    void reset() override {}

    void set_attribute_neuron(const size_t address, const std::string &name, const ModelAttribute &value) override
    {
        OatNeuron &neuron = at(address);
        if (name == "number")
        {
            neuron.number = static_cast<size_t>(static_cast<int>(value));
        }
        else if (name == "time_steps")
        {
            neuron.time_steps = static_cast<int>(value);
        }
        else if (name == "levels")
        {
            neuron.levels = static_cast<int>(value);
        }
        else if (name == "theta_normal")
        {
            neuron.theta_normal = static_cast<double>(value);
        }
        else if (name == "theta_outlier")
        {
            neuron.theta_outlier = static_cast<double>(value);
        }
        else if (name == "bias")
        {
            neuron.bias = static_cast<double>(value);
        }
        else if (name == "scale")
        {
            neuron.scale = static_cast<double>(value);
        }
        else if (name == "scale_rest")
        {
            neuron.scale_rest = static_cast<double>(value);
        }
        else if (name == "train")
        {
            neuron.train = static_cast<std::vector<int>>(value);
        }
    }

    PipelineResult update(const size_t address, const std::optional<double> current, const long int timestep) override
    {
        OatNeuron &neuron = at(address);
        Payload &payload = payload_of(neuron.number);
        const int t = static_cast<int>((timestep - 1) % neuron.time_steps);
        neuron.input += current.value_or(0.0); // which was sent in the step before
        if (t == 0)
        {
            payload.total = 0.0;
            neuron.begin_window();
        }
        if (!neuron.train.empty())
        {
            neuron.replay(static_cast<size_t>(timestep - 1));
        }
        else if (timestep > neuron.time_steps)
        {
            neuron.fire(t);
        }
        payload.emitted = neuron.level * std::ldexp(neuron.unit, -t);
        payload.total += payload.emitted;
        PipelineResult result;
        result.status = neuron.level != 0 ? sanafe::fired : sanafe::updated;
        return result;
    }

    double get_potential(const size_t address) override { return at(address).level; }

private:
    std::vector<OatNeuron> neurons;

    OatNeuron &at(const size_t address)
    {
        if (neurons.size() <= address)
        {
            neurons.resize(address + 1);
        }
        return neurons[address];
    }
};

// Adds up what comes, and never fires: a score.
class SumSoma : public sanafe::SomaUnit
{
public:
    void set_attribute_hw(const std::string & /*name*/, const ModelAttribute & /*value*/) override {}
    void set_attribute_neuron(size_t /*address*/, const std::string & /*name*/, const ModelAttribute & /*value*/) override
    {
    }
    void reset() override {}

    PipelineResult update(const size_t address, const std::optional<double> current, long int /*timestep*/) override
    {
        if (sums.size() <= address)
        {
            sums.resize(address + 1, 0.0);
        }
        sums[address] += current.value_or(0.0);
        PipelineResult result;
        result.status = current.has_value() ? sanafe::updated : sanafe::idle;
        return result;
    }

    double get_potential(const size_t address) override { return address < sums.size() ? sums[address] : 0.0; }

private:
    std::vector<double> sums;
};

class PayloadSynapse : public sanafe::SynapseUnit
{
public:
    void set_attribute_hw(const std::string & /*name*/, const ModelAttribute & /*value*/) override {}
    void reset() override {}

    void track_connection(const size_t address, const size_t source, size_t /*target*/) override
    {
        if (sources.size() <= address)
        {
            sources.resize(address + 1);
        }
        sources[address] = source;
    }

protected:
    std::vector<size_t> sources;

    static PipelineResult of(const double current)
    {
        PipelineResult result;
        result.current = current;
        return result;
    }
};

// weight × payload.
class GradedSynapse : public PayloadSynapse
{
public:
    GradedSynapse() { register_attributes(Names{"weight"}); }

    void set_attribute_edge(const size_t address, const std::string & /*name*/, const ModelAttribute &value) override
    {
        if (weights.size() <= address)
        {
            weights.resize(address + 1, 0.0);
        }
        weights[address] = static_cast<double>(value);
    }

    PipelineResult update(const size_t address, bool /*read*/, long int /*timestep*/) override
    {
        return of(weights[address] * payload_of(sources[address]).emitted);
    }

private:
    std::vector<double> weights;
};

// A spike of `a` brings S_b before this step times s_a, one of `b` S_a with this step times s_b: S_a·S_b over a window.
class ProductSynapse : public PayloadSynapse
{
public:
    ProductSynapse() { register_attributes(Names{"partner", "is_first"}); }

    void set_attribute_edge(const size_t address, const std::string &name, const ModelAttribute &value) override
    {
        if (partners.size() <= address)
        {
            partners.resize(address + 1, 0);
            is_first.resize(address + 1, 0);
        }
        (name == "partner" ? partners : is_first)[address] = static_cast<int>(value);
    }

    PipelineResult update(const size_t address, bool /*read*/, long int /*timestep*/) override
    {
        const Payload own = payload_of(sources[address]);
        const Payload partner = payload_of(static_cast<size_t>(partners[address]));
        return of(own.emitted * (is_first[address] != 0 ? partner.total - partner.emitted : partner.total));
    }

private:
    std::vector<int> partners;
    std::vector<int> is_first;
};
} // namespace

extern "C" sanafe::PipelineUnit *create_oat() { return new OatSoma(); }
extern "C" sanafe::PipelineUnit *create_sum() { return new SumSoma(); }
extern "C" sanafe::PipelineUnit *create_graded() { return new GradedSynapse(); }
extern "C" sanafe::PipelineUnit *create_product() { return new ProductSynapse(); }
