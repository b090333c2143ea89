// rev: reversible transformer training for LibTorch. What a training program uses, in one header.
#pragma once

#include "rev/base/error.h"
#include "rev/engine/checkpoint.h"
#include "rev/engine/field.h"
#include "rev/engine/retrofit.h"
#include "rev/engine/stack.h"
#include "rev/schemes/hamiltonian.h"
#include "rev/schemes/leapfrog.h"
#include "rev/schemes/midpoint.h"
#include "rev/schemes/midpoint_a.h"
#include "rev/schemes/residual.h"
#include "rev/schemes/revffn.h"
#include "rev/schemes/stability.h"

namespace rev {

using base::NotInvertible;
using base::Saturated;
using engine::checkpoint;
using engine::cross_field;
using engine::Field;
using engine::field;
using engine::FieldPtr;
using engine::linearise;
using engine::Linearised;
using engine::Memory;
using engine::Report;
using engine::Retrofit;
using engine::RetrofitOptions;
using engine::Sink;
using engine::Stack;
using engine::StackOptions;
using engine::TokenMap;
using engine::without_skip;
using schemes::Hamiltonian;
using schemes::Leapfrog;
using schemes::Midpoint;
using schemes::MidpointA;
using schemes::Residual;
using schemes::RevFFN;
using schemes::RevFFNOptions;
using schemes::Scheme;
using schemes::Start;
using schemes::StateOptions;

}  // namespace rev
